"""High availability: a protected guest outlives its host, whatever dies, is cut off or stands still; and never runs twice."""
import random, re, socket, time
from tests.lab import protection
from tests.lab.client import wait_port
from . import case, expect, expect_eq, retry
from .guests import check_healthy
from .ha import GUEST, huge_free, keep_busy, scene

FIELDS = ('role', 'state', 'peer', 'term', 'epoch', 'checkpoints_per_s', 'pause_ms_p50', 'pause_ms_p99', 'pause_ms_last', 'interval_ms', 'bytes_per_s',
          'lag_ms', 'held_packets', 'held_bytes', 'dirty_pages_last', 'copied_pages_last', 'failover', 'events')


@case()
def protect_shows_what_it_does_and_unprotect_ends_it():
    with scene() as s:
        row = s.protect()
        missing = [f for f in FIELDS if f not in row]
        expect(not missing, f'the status lacks {missing}: {row}')
        expect_eq((row['role'], row['peer'], row['failover']), ('primary', s.away.address, None), 'role, peer, failover')
        expect_eq(s.home.guests()['g1']['protection'], 'protected', "proa list's protection")
        expect_eq(s.away.guests()['g1']['state'], 'standby', 'state at the backup')
        expect_eq(s.status(s.away)['role'], 'backup', 'role at the backup')
        s.advances()
        # Output waits for checkpoint 1: what the first copy had is not sent again with it, however large the guest.
        copied, first = (int(re.search(f'{what}: ([0-9]+) pages', str(row['events'])).group(1)) for what in ('memory is copied', 'checkpoint 1 is there'))
        expect(copied > 8192 and first < 16384, f'of 32768 pages {copied} were copied first, {first} with checkpoint 1')
        expect_eq(s.status(s.away)['term'], s.status()['term'], 'both sides speak of one term')
        expect(s.status()['pause_ms_p50'] > 0 and s.status()['checkpoints_per_s'] > 0, f'figures: {s.status()}')
        expect('g1' in s.home.sh('proa protect --status'), 'status for people')
        out, code = s.home.run(f'proa protect g1 {s.away.address}')
        expect(code != 0 and 'protected' in out, f'protected twice: {code} {out}')
        s.well()
        s.home.sh('proa unprotect g1')
        retry('the backup forgets the guest', lambda: s.away.guests() == {} and huge_free(s.away) == s.away.free)
        expect_eq(s.home.guests()['g1']['protection'], '', "proa list's protection after unprotect")
        s.well()
        s.protect('--interval adaptive')  # and again
        s.well()
        # At once, in one line of a script: the backup's old copy may still be there.
        s.home.sh(f'proa unprotect g1 && proa protect g1 {s.away.address} --interval 100ms', 180)
        s.advances()
        s.well()
        for h in s.lab.hosts:
            check_healthy(h)


def kills(seeds, **options):
    """The host that runs the guest dies at a random moment; comes back, is protected to again; the other one dies, ..."""
    with scene(limit=3600, **options) as s:
        for seed in seeds:
            rng = random.Random(seed)
            interval, delay = rng.choice(('25ms', '100ms', 'adaptive')), rng.uniform(0, 3)
            print(f'seed {seed}: --interval {interval}, host {s.home.number} dies {delay:.3f} s after protection began', flush=True)
            s.protect(f'--interval {interval}')
            time.sleep(delay)
            s.kill_home()
            s.away.restart()
        check_healthy(s.home)


@case(minutes=10)
def the_primary_dies_at_five_random_moments():
    kills(range(1, 6))


@case(ci=False, minutes=60)
def the_primary_dies_at_fifty_random_moments():
    for vcpus, seeds in ((1, range(100, 125)), (2, range(125, 150))):
        kills(seeds, vcpus=vcpus, aof='always')


@case()
def the_backup_dies_and_the_primary_goes_on_alone():
    with scene() as s:
        s.protect()
        s.advances()
        s.away.kill()
        row = s.wait('the primary gives its backup up', s.home, lambda r: r.get('state') in protection.GONE_ON)
        expect(row['events'], f'it says what happened: {row}')
        s.well()
        s.away.restart()
        s.protect()  # the replica is synced again, and good for a failover
        s.kill_home()


@case()
def a_cut_between_the_hosts_ends_protection_and_nothing_else():
    # Both reach the witness: the primary makes its key permanent, the backup can't have it.
    with scene() as s:
        s.protect()
        s.advances()
        s.lab.part()
        s.wait('the primary gives its backup up', s.home, lambda r: r.get('state') in protection.GONE_ON)
        s.well()
        retry('the backup gives up', lambda: not protection.runs(s.away) and s.away.guests() == {}, 60)
        s.lab.part(whole=True)
        s.well()
        s.protect()
        s.advances()


@case()
def a_primary_cut_off_from_all_is_fenced_and_its_backup_takes_over():
    with scene() as s:
        s.protect()
        s.advances()
        s.lab.cut('mig', s.home)  # peer, witness and our way in; the guests' network stays
        s.takeover()
        s.goes_on('the guest goes on at the backup')
        s.lab.cut('mig', s.away, whole=True)
        retry('the old primary ends its copy', lambda: not protection.runs(s.away) and 'g1' not in s.away.guests(), 60)
        retry('its memory is free again', lambda: huge_free(s.away) == s.away.free)
        s.well()
        s.protect()
        s.kill_home()


@case(ci=False)
def a_primary_cut_off_from_the_witness_goes_on_by_its_backups_word():
    with scene() as s:
        s.protect()
        s.advances()
        s.lab.etcd.cut(s.home)
        goes_on_alone(s)
        s.lab.etcd.heal()
        s.protect()
        s.advances()
        s.well()


def goes_on_alone(s):
    """The witness is out of reach: the pair parts before the fence is reached, and the guest doesn't stand."""
    s.wait('the primary gives its backup up', s.home, lambda r: r.get('state') in protection.GONE_ON, 10)
    retry('the backup forgets the guest', lambda: s.away.guests() == {} and huge_free(s.away) == s.away.free)
    s.well()


@case(ci=False)
def a_backup_cut_off_from_the_witness_harms_nobody():
    with scene() as s:
        s.protect()
        s.lab.etcd.cut(s.away)
        time.sleep(8)
        s.advances()
        s.well()
        s.lab.etcd.heal()
        s.advances()
        s.kill_home()


@case(ci=False)
def a_witness_that_stands_still_costs_the_protection_and_not_the_guest():
    with scene() as s:
        s.protect()
        s.advances()
        s.lab.etcd.freeze()
        goes_on_alone(s)
        s.lab.etcd.freeze(False)
        s.protect()
        s.kill_home()


@case(ci=False)
def a_witness_and_a_link_that_go_together_stop_the_guest_until_one_is_back():
    with scene() as s:
        s.protect()
        s.advances()
        s.lab.part()
        s.lab.etcd.freeze()
        time.sleep(6)  # the fence is reached
        expect(not any(protection.runs(h) for h in s.lab.hosts), f'nobody may run it now: {[h.guests() for h in s.lab.hosts]}')
        s.lab.etcd.freeze(False)  # lets the first one settle, or the backup claim
        s.lab.part(whole=True)
        running = retry('one copy', lambda: (lambda r: r if len(r) == 1 else None)([h for h in s.lab.hosts if protection.runs(h)]), 60)
        if running[0] is not s.home:
            s.swap()
        retry('the other copy is gone', lambda: s.away.guests() == {} and huge_free(s.away) == s.away.free)
        s.well()


@case()
def a_primary_frozen_for_longer_than_its_lease_finds_itself_fenced():
    with scene() as s:
        s.protect()
        s.advances()
        s.home.freeze()
        s.takeover()
        s.goes_on('the guest goes on at the backup')
        s.away.freeze(False)
        # What it had let out before it stood still may come late, once; its copy never runs again.
        retry('the old primary ends its copy', lambda: not protection.runs(s.away) and 'g1' not in s.away.guests(), 60)
        since = time.monotonic()
        s.goes_on()
        s.one_copy()
        expect_eq(s.sightings.hosts(since), [s.home.number], 'hosts that speak in the name of the guest after the old one ended')
        expect_eq(s.load.audit(), [], 'acknowledged writes')
        s.turns = s.sightings.hosts()
        s.well()


@case(ci=False)
def a_primary_frozen_for_less_than_a_lease_goes_on():
    with scene() as s:
        s.protect()
        s.advances()
        for _ in range(3):
            s.home.freeze()
            time.sleep(0.4)
            s.home.freeze(False)
            s.goes_on()
        s.one_copy()
        s.protected()
        s.well()


@case(ci=False)
def a_protected_guest_that_is_destroyed_is_gone_on_both_hosts():
    with scene() as s:
        s.protect()
        s.advances()
        s.end()
        s.home.sh('proa destroy g1', 30)
        for h in s.lab.hosts:
            retry(f'the guest is gone from host {h.number}', lambda: h.guests() == {} and huge_free(h) == h.free, 20)
        retry('nobody holds its key', lambda: s.lab.etcd.holder('g1') is None, 20)


@case(ci=False)
def a_planned_failover_moves_the_guest_to_its_backup():
    with scene() as s:
        s.protect()
        s.advances()
        s.home.sh('proa failover g1', 60)
        retry('the guest runs at the backup', lambda: protection.runs(s.away))
        s.swap()
        retry('the old primary has no copy', lambda: s.away.guests() == {} and huge_free(s.away) == s.away.free)
        expect(s.home.guests()['g1']['protection'] in ('', *protection.GONE_ON, 'active'), f'it says that it is unprotected: {s.home.guests()["g1"]["protection"]}')
        s.well()


@case(ci=False)
def protection_outlives_a_restart_of_either_proad():
    with scene() as s:
        s.protect()
        for host in (s.home, s.away):
            host.restart_proad()
            s.advances()
            expect_eq(s.away.guests()['g1']['state'], 'standby', 'state at the backup')
        s.well()
        s.kill_home()


@case(ci=False)
def busy_hosts_are_not_dead_hosts():
    with scene() as s:
        s.protect()
        term = s.status()['term']
        for host in (s.home, s.away):
            end = keep_busy(host, 15)
            while time.monotonic() < end:
                row = s.status()
                expect_eq((row.get('state'), row.get('term')), ('protected', term), f'state and term while host {host.number} is busy')
                time.sleep(1)
        s.advances()
        s.well()


@case(ci=False)
def a_guest_that_powers_itself_off_is_gone_on_both_hosts():
    with scene() as s:
        s.protect()
        s.advances()
        s.end()
        s.lab.guest('(sleep 0.5; poweroff -f) >/dev/null 2>&1 &')
        for h in s.lab.hosts:
            retry(f'the guest is gone from host {h.number}', lambda: h.guests() == {} and huge_free(h) == h.free)
        retry('nobody holds its key', lambda: s.lab.etcd.holder('g1') is None, 20)


def garbage(rng):
    """What a stranger may send: noise, another protocol, and our own frames without a right to."""
    yield rng.randbytes(4096)
    yield b'GET / HTTP/1.1\r\nHost: proa\r\n\r\n'
    yield b'proa\x01\x00\x40\x80' + rng.randbytes(8) + bytes(16)  # a frame's head with absurd lengths
    yield b'proa\x01\x00\x40\x80' + (0).to_bytes(4, 'little') * 2 + bytes(16)
    yield b''


@case()
def a_hostile_stream_is_refused_and_protection_goes_on():
    with scene() as s:
        s.protect()
        refusals = lambda: s.away.sh('cat /run/proad.log /run/proa/log/*.log').count('refused')
        before, rng = refusals(), random.Random(1)
        ports = {int(p) for p in re.findall(r':(\d+) .*LISTEN', s.away.sh('netstat -tln'))} - {2323}
        expect(4650 in ports, f'ports: {ports}')
        for port in ports:
            for data in garbage(rng):
                try:
                    with s.lab.net.connect(s.away.address, port) as c:
                        c.sendall(data)
                        c.shutdown(socket.SHUT_WR)
                        c.settimeout(30)
                        while c.recv(4096):
                            pass
                except ConnectionError:
                    pass  # that is an answer too
        retry('the backup logs what it refused', lambda: refusals() > before, 10)
        s.advances()
        s.well()
        s.kill_home()


@case(ci=False)
def what_the_guest_has_synced_to_disk_is_there_after_a_failover():
    with scene(aof='always') as s:
        for seed in (1, 2):
            s.protect()
            directory, said, end = f'/disk/synced{seed}', 0, time.monotonic() + random.Random(seed).uniform(3, 6)
            s.lab.guest(f'mkdir {directory}; sync')
            while time.monotonic() < end:  # what we were told is on disk must be there after
                s.lab.guest(f'echo "contents {said}" > {directory}/{said} && sync {directory}/{said} {directory}')
                said += 1
            s.kill_home()
            s.away.restart()
            wait_port(s.lab.net, GUEST, 2323)
            s.lab.guest('echo 3 > /proc/sys/vm/drop_caches')  # from the new host's disk, not from the guest's memory
            there = s.lab.guest(f'cd {directory} && for i in $(seq 0 {said - 1}); do cat $i; done')
            expect_eq(there.split('\n')[:-1], [f'contents {i}' for i in range(said)], 'files that the guest had synced')
        s.protect()
        s.quiet()
        s.disks_equal()
        # A backup that dies while it applies: its replica is repaired, synced and equal again.
        s.lab.guest('touch /tmp/noise; while [ -e /tmp/noise ]; do dd if=/dev/urandom of=/disk/noise bs=64k count=16 conv=fsync; done >/dev/null 2>&1 &')
        time.sleep(1.5)
        s.away.kill()
        s.wait('the primary gives its backup up', s.home, lambda r: r.get('state') in protection.GONE_ON)
        s.away.restart()
        s.lab.guest('rm /tmp/noise; sleep 1; sync')
        s.protect()
        s.disks_equal()


@case(ci=False)
def a_guest_with_auto_reprotect_needs_nobody_to_be_protected_again():
    with scene(settings='auto_reprotect = 1') as s:
        # What was refused is not tried again behind one's back.
        out, code = s.home.run('proa protect g1 10.77.0.99', 60)
        expect(code != 0, f'no host there: {out}')
        time.sleep(3)
        expect_eq(s.home.run('proa pause g1 && proa unpause g1')[1], 0, 'nothing is being tried')
        # Opposite wishes: whoever comes last wins, also while the other host is still being asked.
        wish = s.home.start('proa protect g1 10.77.0.99')
        time.sleep(1)
        s.home.sh('proa unprotect g1', 60)
        expect(wish.finish(60)[1] != 0, 'the attempt has ended')
        s.protect()
        for _ in range(2):
            s.kill_home()
            s.away.restart()
            s.wait('protected again, by itself', s.home, lambda r: r.get('state') == 'protected', 120)
            s.advances()
        s.well()
