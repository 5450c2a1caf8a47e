"""./run demo-ha: a protected guest outlives its host, twice. Two hosts, etcd as their witness, a Debian-kernel guest with Redis
on a replicated disk, clients outside; the host that runs it is killed with SIGKILL, comes back, and then the other one dies."""
import re, signal, sys, time
from . import images, protection
from .client import RedisLoad
from .lab import Lab
from .registers import Registers
from .sightings import Sightings
from .tables import print_table

GUEST, CALM = '10.77.1.10', 6  # CALM: seconds over which latencies are measured


def say(text):
    print(f'[{time.monotonic() - BEGAN:5.1f} s] {text}', flush=True)


class Demo:
    def __init__(self, lab):
        self.lab, self.rows, self.wrong = lab, [], []
        say(f'hosts are up ({lab.a.boot_seconds:.1f} s); etcd, keys for mutual TLS, then proad on both')
        lab.start_daemons(witness='etcd')
        say('proa create g1: Debian\'s kernel, 2 vCPUs, 192 MiB, Redis with its append-only file on /dev/vdb, a memory writer (16 MiB at 2 MiB/s)')
        lab.create(lab.a, vcpus=2, memory=192, disk='local', extra='redis aof=everysec dirty=16,2')
        self.load = RedisLoad(lab.net, GUEST)
        self.registers = Registers(lab.net, GUEST)
        self.sightings = Sightings(lab, lab.guest('cat /sys/class/net/eth0/address').strip())
        say('clients outside both hosts connect, once: 3 writers that check every reply, 4 users of shared registers, 1 probe')
        self.before = self.latency(0)

    def latency(self, settle=2):
        """(p50, p99) of a request, over the next few seconds."""
        time.sleep(settle)
        since = time.monotonic()
        time.sleep(CALM)
        return self.load.request_ms(since)

    def protect(self, home, away):
        say(f'proa protect g1 {away.address}   (on host {home.number})')
        since = time.monotonic()
        protection.protect(home, away)
        say(f'   protected after {time.monotonic() - since:.1f} s; each reply now waits until host {away.number} has what it depends on')
        latency = self.latency()
        row = protection.status(home)
        say(f'   {row["checkpoints_per_s"]:.0f} checkpoints/s of {row["dirty_pages_last"]} pages, pause {row["pause_ms_p50"]:.1f} ms, '
            f'{row["bytes_per_s"] / 2**20:.1f} MB/s, request p50 {self.before[0]:.1f} -> {latency[0]:.1f} ms')
        print(home.sh('proa list'), end='')
        return row, latency

    def lose(self, home, away, row, latency):
        say(f'kill -9 of host {home.number}\'s QEMU')
        since = time.monotonic()
        home.kill()
        f = protection.wait_takeover(away)
        say(f'   host {away.number}: silence noticed after {f["detected_ms"]:.0f} ms, key held after {f["claimed_ms"]:.0f} ms, guest running after {f["running_ms"]:.0f} ms')
        self.goes_on()
        gap = self.load.longest_gap_ms(since)
        self.wrong += [f'after the death of host {home.number}: {w}' for w in self.load.audit()]
        copies = [h.number for h in self.lab.hosts if h.alive() and protection.runs(h)]
        if copies != [away.number]:
            self.wrong.append(f'hosts that run the guest: {copies}')
        say(f'   longest gap seen from outside {gap:.0f} ms; every acknowledged write read back')
        self.rows.append((f'host {home.number} dies', f'{row["checkpoints_per_s"]:.0f}', f'{row["pause_ms_p50"]:.1f}', f'{row["pause_ms_p99"]:.1f}',
                          f'{self.before[0]:.1f}', f'{latency[0]:.1f}', f'{f["detected_ms"]:.0f}', f'{f["claimed_ms"]:.0f}', f'{f["running_ms"]:.0f}', f'{gap:.0f}'))

    def goes_on(self, seconds=60):
        """Until every connection has had replies again."""
        clients = [*self.load.all, *self.registers.clients]
        counts, end = [c.replies for c in clients], time.monotonic() + seconds
        while any(c.replies < n + 3 and not c.error for c, n in zip(clients, counts)):
            if time.monotonic() > end:
                self.wrong.append(f'no replies on some connection for {seconds} s')
                return
            time.sleep(0.1)

    def judge(self, home):
        """What must hold at the end."""
        writer = re.findall(r'WRITER (?:ok|MISMATCH|start).*', self.lab.console(home))
        self.wrong += self.load.stop() + self.registers.stop()
        if not writer or 'ok' not in writer[-1]:
            self.wrong.append(f'the memory writer found wrong memory, or died: {writer[-1:] or "silent"}')
        if self.sightings.hosts() != [1, 2, 1]:
            self.wrong.append(f'hosts that spoke in the name of the guest, in turn: {self.sightings.hosts()}')
        print()
        table(self.rows)
        history = self.registers.history()
        print(f'\nreplies checked: {self.load.replies()}; operations on shared registers: {len(history)}, '
              f'an order that explains them all: {"none" if any("linearizable" in w for w in self.wrong) else "found"}')
        print(f'memory writer in the guest: {writer[-1] if writer else "silent"}')
        for w in self.wrong:
            print(f'WRONG: {w}')


def table(rows):
    head = ('failover', 'ckpt/s', 'pause p50 ms', 'p99 ms', 'request p50 ms before', 'protected', 'detected ms', 'key ms', 'running ms', 'outside gap ms')
    print_table(head, rows)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say('building the guest\'s disk with Redis, booting two emulated hosts with proa-hv')
    images.guest_disk()
    with Lab(hosts=2, local_disks=True) as lab:
        demo = Demo(lab)
        demo.lose(lab.a, lab.b, *demo.protect(lab.a, lab.b))
        say('host 1 is switched on again: its disk is as it was when it died')
        lab.a.restart()
        demo.lose(lab.b, lab.a, *demo.protect(lab.b, lab.a))
        demo.judge(lab.a)
        wrong = demo.wrong
    print('demo-ha: ' + ('FAILED' if wrong else f'all promises kept, {time.monotonic() - BEGAN:.0f} s'))
    return 1 if wrong else 0


BEGAN = time.monotonic()
if __name__ == '__main__':
    sys.exit(main())
