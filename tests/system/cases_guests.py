"""Bare-metal guests: the guest platform, interrupts and timers across a move, and what a hostile guest must not do."""
from tests.lab.lab import Lab
from . import case, expect, retry
from .guests import check_healthy, console, create, gone, plain


def says(host, name, text, seconds=60):
    return retry(f'{name} prints {text!r}', lambda: text in console(host, name) and console(host, name), seconds)


@case()
def hello_on_plain_qemu_and_on_proa():
    for cpus in (1, 4):
        expect(f'HELLO cpus={cpus} ram_mib=64 el=1' in plain('hello', 'a=1', cpus), 'hello on QEMU virt')
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'hello', arguments='seconds=10 seed=7', vcpus=2)
        says(lab.a, 'g1', "HELLO cpus=2 ram_mib=16 el=1 arguments='seconds=10 seed=7'")
        retry('hello powers off', lambda: gone(lab.a))
        check_healthy(lab.a)


@case()
def smp_with_1_to_8_vcpus_on_2_cpus():
    for cpus in (1, 2, 4, 8):
        expect(f'SMP ok cpus={cpus}' in plain('smp', cpus=cpus), f'smp on QEMU virt with {cpus} CPUs')
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        for vcpus in (1, 2, 4, 8):
            create(lab.a, 'smp', vcpus=vcpus)
            retry('smp ends', lambda: gone(lab.a), 120)
            text = console(lab.a)
            expect(f'SMP ok cpus={vcpus}' in text, text)
        check_healthy(lab.a)
