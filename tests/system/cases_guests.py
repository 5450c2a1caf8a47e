"""Bare-metal guests: the guest platform, interrupts and timers across a move, and what a hostile guest must not do."""
import json, re, time
from tests.lab.lab import Lab
from . import case, expect, expect_eq, retry
from .guests import check_healthy, console, count, create, free_pages, goes_on, gone, huge_pages, plain, says


@case(hosts=1)
def hello_on_plain_qemu_and_on_proa():
    for cpus in (1, 4):
        expect(f'HELLO cpus={cpus} ram_mib=64 el=1' in plain('hello', 'a=1', cpus), 'hello on QEMU virt')
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'hello', arguments='seconds=10 seed=7', vcpus=2)
        says(lab.a, 'g1', "HELLO cpus=2 ram_mib=16 el=1 arguments='seconds=10 seed=7'")
        retry('hello powers off', lambda: gone(lab.a))
        check_healthy(lab.a)


def smp(counts):
    for cpus in counts:
        expect(f'SMP ok cpus={cpus}' in plain('smp', cpus=cpus), f'smp on QEMU virt with {cpus} CPUs')
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        for vcpus in counts:
            create(lab.a, 'smp', vcpus=vcpus)
            retry(f'smp with {vcpus} vCPUs ends', lambda: gone(lab.a), 180)
            text = console(lab.a)
            expect(f'SMP ok cpus={vcpus}' in text, text)
        check_healthy(lab.a)


@case(hosts=1)
def smp_with_1_and_4_vcpus_on_2_cpus():
    smp((1, 4))


@case(ci=False, minutes=10, hosts=1)
def smp_with_2_and_8_vcpus_on_2_cpus():
    smp((2, 8))


def storm(vcpus, seconds, arguments=''):
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'storm', arguments=f'seconds={seconds} {arguments}', vcpus=vcpus)
        text = says(lab.a, 'g1', 'STORM end', 60 + 6 * seconds)
        expect('STORM end bad=0' in text and 'BAD' not in text, text)
        check_healthy(lab.a)


@case(hosts=1)
def storm_on_plain_qemu_and_on_proa():
    for cpus in (1, 3):
        text = plain('storm', 'seconds=3', cpus)
        expect('STORM end bad=0' in text and 'BAD' not in text, text)
    storm(2, 10)


@case(ci=False, hosts=1)
def storm_overcommitted():
    storm(4, 30, 'hz=200')


def there_and_back(lab, name, good, wrong, options=''):
    """Moves the guest to the other host and home again; it must be as well after each move as before. What the moves say of themselves."""
    moves = []
    for source, target in ((lab.a, lab.b), (lab.b, lab.a)):
        goes_on(source, name, good)
        since = count(target, name, good)
        out = source.sh(f'proa migrate {name} {target.address} {options} --json', 240)
        moves.append(json.loads(out.strip().splitlines()[-1]))
        retry(f'{name} goes on after the move', lambda: count(target, name, good) >= since + 3, 90)
        for host in (source, target):
            bad = [line for line in console(host, name).splitlines() if re.search(wrong, line)]
            expect(not bad, '\n'.join(bad[:5]))
    return moves


@case()
def storm_moves_there_and_back():
    with Lab(hosts=2) as lab:
        lab.start_daemons()
        create(lab.a, 'storm', vcpus=2, arguments='hz=200')
        there_and_back(lab, 'g1', 'STORM ok', 'BAD|FAILED|PANIC')
        for host in lab.hosts:
            check_healthy(host)


@case(ci=False, minutes=15)
def storm_moves_ten_times():
    with Lab(hosts=2) as lab:
        lab.start_daemons()
        create(lab.a, 'storm', vcpus=2)
        for _ in range(5):
            there_and_back(lab, 'g1', 'STORM ok', 'BAD|FAILED|PANIC')


def memory(log, mib, vcpus, cpu='neoverse-n1'):
    with Lab(hosts=2, cpu=cpu) as lab:
        lab.start_daemons()
        create(lab.a, 'memory', vcpus=vcpus, memory=64, arguments=f'mib={mib} pause_us=20000')
        moves = there_and_back(lab, 'g1', 'MEMORY ok', 'MISMATCH|FAILED|PANIC', f'--dirty-log={log}')
        for move in moves:  # what it has never used stays out of both, by 2 MiB: what it works on, and its image and stacks
            first = move['rounds'][0]['pages'] // 256
            expect(mib <= first <= mib + 8, f'the first round held {first} of {mib} MiB that are used: {move["rounds"]}')
        for host in lab.hosts:
            check_healthy(host)


@case()
def memory_moves_there_and_back_with_the_hardware_dirty_log():
    memory('hardware', 16, 2)


@case()
def memory_moves_there_and_back_with_the_write_protect_dirty_log():
    memory('write-protect', 16, 2, 'max,pauth-impdef=on')  # and pointer authentication keys move


@case()
def memory_moves_where_the_mmu_keeps_no_access_flags():
    memory('write-protect', 16, 2, 'cortex-a72')


@case(ci=False, minutes=15)
def large_memory_moves_with_both_dirty_logs():
    for log in ('hardware', 'write-protect'):
        memory(log, 48, 4)


def hostile(seeds, seconds, vcpus, arguments=''):
    """Hostile guests, one after the other, beside a storm that must not notice."""
    with Lab(hosts=1, limit=1700) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'storm', 'neighbour', arguments='hz=100 patience_ms=30000 jump_ms=30000')
        says(lab.a, 'neighbour', 'STORM ok')
        pages, huge = free_pages(lab.a), huge_pages(lab.a)
        for seed in seeds:
            create(lab.a, 'hostile', 'evil', f'seed={seed} {arguments}', vcpus)
            end = time.time() + seconds
            while time.time() < end:
                expect(not gone(lab.a, 'evil'), f'seed {seed}: the hostile guest is gone: ' + console(lab.a, 'evil')[-500:])
                lab.a.sh('proa list >/dev/null', 20)
                time.sleep(0.5)
            expect('HOSTILE round 2 ' in console(lab.a, 'evil'), f'seed {seed}: it does something: ' + console(lab.a, 'evil')[-500:])
            lab.a.sh('proa destroy evil', 30)
            retry('the hostile guest is gone', lambda: gone(lab.a, 'evil'), 20)
            goes_on(lab.a, 'neighbour', 'STORM ok', 2)
            expect('BAD' not in console(lab.a, 'neighbour'), console(lab.a, 'neighbour')[-800:])
            expect_eq(free_pages(lab.a), pages, f'seed {seed}: free pages of proa-hv')
            expect_eq(huge_pages(lab.a), huge, f'seed {seed}: free huge pages')
        check_healthy(lab.a)


@case(hosts=1)
def hostile_guests_harm_nobody():
    hostile((1, 2), 15, 2)


@case(hosts=1)
def a_guest_that_wrecks_its_own_cpu_harms_nobody():
    hostile((5,), 10, 3, 'suicide=1')


@case(ci=False, minutes=30, hosts=1)
def many_hostile_guests_harm_nobody():
    hostile(range(10, 26), 30, 4)


@case(ci=False, minutes=30, hosts=1)
def every_attack_alone_harms_nobody():
    for attack in range(10):
        hostile((attack + 100,), 20, 2, f'only={attack}')


@case(hosts=1)
def a_killed_proa_vm_stops_its_guest_and_leaks_nothing():
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        pages, huge = free_pages(lab.a), huge_pages(lab.a)
        for image, vcpus, good in (('storm', 2, 'STORM ok'), ('memory', 4, 'MEMORY ok'), ('hostile', 2, 'HOSTILE round')):
            create(lab.a, image, vcpus=vcpus, memory=32)
            says(lab.a, 'g1', good)
            pid = json.loads(lab.a.sh('proa --json info g1'))['pid']
            lab.a.sh(f'kill -9 {pid}')
            retry('the guest is gone', lambda: gone(lab.a), 20)
            retry('proa-hv has its pages again', lambda: free_pages(lab.a) == pages, 10)
            retry('the control domain has its huge pages again', lambda: huge_pages(lab.a) == huge, 10)
        create(lab.a, 'hello')
        says(lab.a, 'g1', 'HELLO')
        check_healthy(lab.a)
