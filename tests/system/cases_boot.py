"""The control domain and guests boot on every CPU count; power goes where it should."""
from tests.lab.lab import Lab
from . import case, expect, expect_eq


def control(cpus):
    with Lab(hosts=1, cpus=cpus) as lab:
        expect_eq(lab.a.sh('nproc').strip(), str(cpus), 'CPUs online in the control domain')
        # Each CPU has had timer interrupts of its own.
        counts = lab.a.sh("grep -E 'arch_timer' /proc/interrupts").split(':')[1].split()[:cpus]
        expect(all(int(c) > 0 for c in counts), f'every CPU takes timer interrupts: {counts}')


@case()
def control_domain_boots_on_1_cpu():
    control(1)


@case()
def control_domain_boots_on_2_cpus():
    control(2)


@case()
def control_domain_boots_on_4_cpus():
    control(4)
