"""Blackout and total time of one live migration, seen from outside both hosts: proa and QEMU/KVM side by side."""
import json, time
from tests.lab.client import Connection, wait_port
from tests.lab.lab import Lab, LabError
from . import peer_kvm

GUEST, MEMORY, WORKING_SET = '10.77.1.10', 256, 64


class Probe(Connection):
    """An echo every 5 ms; the gaps between answers are the blackout."""

    def step(self):
        self.sock.sendall(b'x')
        assert self.sock.recv(16), 'closed'
        now = time.monotonic()
        if now - self.last > 0.02:
            self.gaps.append((self.last, now - self.last))
        self.last = now
        self.replies += 1

    def longest(self, since):
        return 1e3 * max([g for at, g in list(self.gaps) if at + g >= since] + [time.monotonic() - self.last])


def probe(lab):
    wait_port(lab.net, GUEST, 7)
    p = Probe(lab.net, GUEST, 7, 0.005, 60)
    p.start()
    time.sleep(6)  # boot and the writer's first touches are over
    return p


def measure(p, move):
    since = time.monotonic()
    result = move()
    total = time.monotonic() - since
    time.sleep(4)
    if result is None or p.error:
        return {'failed': p.error or 'the migration did not complete'}
    base = [1e3 * g for at, g in p.gaps if since - 4 < at < since]
    return {**result, 'outside_total_s': round(total, 2), 'outside_blackout_ms': round(p.longest(since)), 'idle_gap_ms': round(max(base or [0]))}


def proa(rate, tls=True):
    with Lab(hosts=2, memory=1536, huge=160) as lab:
        lab.start_daemons(tls=tls)
        lab.create(lab.a, memory=MEMORY, extra=f'dirty={WORKING_SET},{rate}' if rate else '')
        p = probe(lab)

        def move():
            out, code = lab.a.run(f'proa migrate g1 {lab.b.address} --json', 200)
            if code != 0:
                return None
            r = json.loads(out.strip().splitlines()[-1])
            return {'rounds': len(r['rounds']), 'wire_mib': r['wire_bytes'] / 2**20, 'reported_downtime_ms': r['downtime_ms'],
                    'downtime': {k: round(v, 1) for k, v in r['downtime'].items()}, 'late_frames': r['late_frames'], 'engine_s': r['total_ms'] / 1e3}
        row = measure(p, move)
        if 'failed' not in row:
            row['outside_total_with_start_s'] = row['outside_total_s']
        return row


def kvm(rate, tls=False):
    with peer_kvm.lab(1536) as lab:
        args = f'console=hvc0 kpti=0 quiet ip={GUEST} ' + (f'dirty={WORKING_SET},{rate}' if rate else '')
        options = ['', '']
        if tls:
            lab.make_keys()
            options = [peer_kvm.tls_options(lab.a, 'client'), peer_kvm.tls_options(lab.b, 'server')]
        source = lab.a.start_guest(options[0], MEMORY, args)
        try:
            p = probe(lab)
        except OSError as e:
            raise LabError(f'{e}: {lab.a.run("tail -c 1500 /run/qemu.log /run/guest.console; ip link")[0]}') from e
        # proa starts the destination's process within the move, as `virsh migrate` does.
        began = time.monotonic()
        target = lab.b.start_guest('-incoming defer ' + options[1], MEMORY, args)
        start = time.monotonic() - began
        if tls:
            peer_kvm.use_tls(source, target, lab.b.address)
        time.sleep(2)
        row = measure(p, lambda: peer_kvm.migrate(source, target, lab.b.address, 120 if tls else 180))
        if 'failed' not in row:
            row['outside_total_with_start_s'] = round(row['outside_total_s'] + start, 2)
        return row


WHO = {'proa': proa, 'kvm-tls': lambda rate: kvm(rate, tls=True),
       'proa-plain': lambda rate: proa(rate, tls=False), 'kvm': kvm}  # as they are by default: proa with TLS, KVM without


def run(rates=(0, 5, 20), repeat=1):
    rows = []
    for rate in rates:
        for i in range(repeat):
            for who, f in WHO.items():
                if who == 'kvm-tls' and i > 0:
                    continue  # half a minute where it converges: once tells enough
                row = {'who': who, 'dirty_mib_s': rate, **f(rate)}
                print(f'   {row}', flush=True)
                rows.append(row)
    return rows
