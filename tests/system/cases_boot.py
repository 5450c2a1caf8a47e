"""The control domain and guests boot on every CPU count; power goes where it should."""
from tests.lab.lab import Lab
from . import case, expect, expect_eq


def control(cpus):
    with Lab(hosts=1, cpus=cpus) as lab:
        expect_eq(lab.a.sh('nproc').strip(), str(cpus), 'CPUs online in the control domain')
        # Each CPU has had timer interrupts of its own.
        counts = lab.a.sh("grep -E 'arch_timer' /proc/interrupts").split(':')[1].split()[:cpus]
        expect(all(int(c) > 0 for c in counts), f'every CPU takes timer interrupts: {counts}')


@case(hosts=1)
def control_domain_boots_on_1_cpu():
    control(1)


@case(hosts=1)
def control_domain_boots_on_2_cpus():
    control(2)


@case(hosts=1)
def control_domain_boots_on_4_cpus():
    control(4)


@case(hosts=1)
def a_control_cpu_goes_off_line_and_comes_back():
    with Lab(hosts=1, cpus=2) as lab:
        online = '/sys/devices/system/cpu/cpu1/online'
        for _ in range(3):
            expect_eq(lab.a.sh(f'echo 0 > {online} && nproc').strip(), '1', 'CPUs after one went off line')
            expect_eq(lab.a.sh(f'echo 1 > {online} && nproc', timeout=30).strip(), '2', 'CPUs after it came back')
