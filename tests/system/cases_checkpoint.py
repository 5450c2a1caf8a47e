"""Copy-on-write checkpoints and the fence on an emulated host, without a backup: proa-vm checks every page of each checkpoint
against what it was at the pause."""
import json, time
from tests.lab.host import Background
from tests.lab.lab import Lab
from . import case, expect, expect_eq, retry
from .guests import check_healthy, console, create, free_pages, goes_on, gone, huge_pages, says


def info(host, name='g1'):
    return json.loads(host.sh(f'proa --json info {name}'))


def state(host):
    return info(host)['state']


def fences(host):
    """How often proa-hv has stopped a guest; proa-vm need not answer."""
    return host.sh('proa dmesg').count(': fenced')


@case(hosts=1)
def checkpoints_hold_memory_as_it_was_at_the_pause():
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'memory', vcpus=2, memory=32, arguments='mib=16')
        says(lab.a, 'g1', 'MEMORY ok')
        huge = huge_pages(lab.a)
        for log in ('write-protect', 'hardware'):
            r = json.loads(lab.a.sh(f'proa --json dirty-log g1 checkpoint --cycles 8 --wait 50 --log {log}', 120))
            print(log, r, flush=True)
            expect_eq(r['wrong'], 0, f'{log}: pages that are not what they were at the pause')
            expect_eq(r['cycles'], 8, f'{log}: checkpoints taken')
            expect(r['pages'] > 8192, f'{log}: the first holds all of memory, the others what was written: {r}')
            expect(r['copies'] > 0, f'{log}: the guest wrote to held pages: {r}')
            goes_on(lab.a, 'g1', 'MEMORY ok')
            expect_eq(huge_pages(lab.a), huge, f'{log}: the copy pool is given back')
        expect('MISMATCH' not in console(lab.a), console(lab.a)[-800:])
        check_healthy(lab.a)


@case(hosts=1)
def a_full_copy_pool_makes_the_guest_wait():
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        # 1022 copies fit; the guest writes 4000 pages over and over, and nothing is read for a while.
        create(lab.a, 'memory', vcpus=2, memory=18, arguments='mib=15')
        says(lab.a, 'g1', 'MEMORY ok')
        probe = Background(lab.a, 'proa --json dirty-log g1 checkpoint --cycles 2 --wait 6000')
        retry('a vCPU meets a full pool', lambda: info(lab.a)['copy_waits'] > 0, 60)
        # It has the dirty log for itself meanwhile: a move's rounds would miss what the other takes from it.
        for other in ('migrate g1 10.77.0.2', 'dirty-log g1 off', 'dirty-log g1 checkpoint'):
            out, code = lab.a.run(f'proa {other}')
            expect_eq((code, 'checkpoints of g1 are being measured' in out), (4, True), f'proa {other}: {out}')
        lab.a.sh('proa pause g1')  # one that waits can be paused
        expect_eq(state(lab.a), 'paused', 'state')
        lab.a.sh('proa unpause g1')
        out, code = probe.finish()
        expect_eq(code, 0, f'the end of the checkpoints: {out}')
        expect_eq(json.loads(out)['wrong'], 0, 'pages that are not what they were at the pause')
        goes_on(lab.a, 'g1', 'MEMORY ok')
        expect('MISMATCH' not in console(lab.a), console(lab.a)[-800:])
        check_healthy(lab.a)


@case(hosts=1)
def a_proa_vm_killed_in_the_middle_of_a_checkpoint_leaks_nothing():
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        pages, huge = free_pages(lab.a), huge_pages(lab.a)
        create(lab.a, 'memory', vcpus=2, memory=32, arguments='mib=16')
        says(lab.a, 'g1', 'MEMORY ok')
        Background(lab.a, 'proa dirty-log g1 checkpoint --cycles 1 --wait 60000')
        retry('the guest writes to held pages', lambda: info(lab.a)['copied_pages'] > 0, 60)
        lab.a.sh(f'kill -9 {info(lab.a)["pid"]}')
        retry('the guest is gone', lambda: gone(lab.a), 20)
        retry('proa-hv has its pages again', lambda: free_pages(lab.a) == pages, 10)
        retry('the control domain has its huge pages again', lambda: huge_pages(lab.a) == huge, 10)
        check_healthy(lab.a)


@case(hosts=1)
def a_fence_stops_the_guest_whatever_has_become_of_proa_vm():
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'storm', vcpus=2, arguments='hz=100 patience_ms=600000 jump_ms=600000')
        says(lab.a, 'g1', 'STORM ok')
        # Moved away in time it does nothing; reached, it pauses the guest, which can't go on until it is taken away.
        lab.a.sh('proa dirty-log g1 fence --after 600000; proa dirty-log g1 fence --after 0')
        goes_on(lab.a, 'g1', 'STORM ok')
        lab.a.sh('proa dirty-log g1 fence --after 1')
        retry('the fenced guest is paused', lambda: state(lab.a) == 'paused')
        out, code = lab.a.run('proa unpause g1 2>&1')
        expect(code != 0 and 'fence' in out, f'unpause is refused: {out}')
        lab.a.sh('proa dirty-log g1 fence --after 0; proa unpause g1')
        goes_on(lab.a, 'g1', 'STORM ok')
        # proa-vm hangs: it is proa-hv that stops the guest.
        pid = info(lab.a)['pid']
        lab.a.sh(f'proa dirty-log g1 fence --after 3000; kill -STOP {pid}')
        retry('the guest of a hung proa-vm is stopped', lambda: fences(lab.a) == 2, 60)
        lab.a.sh(f'kill -CONT {pid}')
        retry('and proa-vm learns of it', lambda: state(lab.a) == 'paused')
        lab.a.sh('proa dirty-log g1 fence --after 0; proa unpause g1')
        goes_on(lab.a, 'g1', 'STORM ok')
        # The whole host freezes for longer than that.
        lab.a.sh('proa dirty-log g1 fence --after 2000')
        lab.a.freeze()
        time.sleep(4)
        lab.a.freeze(False)
        retry('proa-hv finds the fence in the past', lambda: fences(lab.a) == 3, 60)
        retry('the guest of a host that came back is paused', lambda: state(lab.a) == 'paused', 60)
        lab.a.sh('proa destroy g1')
        expect('BAD' not in console(lab.a), console(lab.a)[-800:])
        check_healthy(lab.a)
