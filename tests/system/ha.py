"""A protected pair under load, and what must be true of it whatever happens: for cases_ha.py."""
import contextlib, hashlib, re, time
from tests.lab import protection
from tests.lab.client import RedisLoad, wait_port
from tests.lab.lab import Lab
from tests.lab.registers import Registers
from tests.lab.sightings import Sightings
from . import expect, expect_eq, retry

GUEST = '10.77.1.10'
MISMATCH = 'MISMATCH'


class Scene:
    """A guest on host 1 with Redis on its replicated disk and a memory writer; outside: writers that check every reply, clients
    of registers, and a listener for who speaks in the guest's name. `home` is the host that runs the guest, `away` the other."""

    def __init__(self, lab, options='', settings='', vcpus=2, dirty='8,2', aof='everysec', plaintext=False):
        self.lab, self.home, self.away = lab, lab.a, lab.b
        self.options = options + (' --plaintext' if plaintext else '')
        lab.start_daemons(tls=not plaintext, witness='etcd')
        for h in lab.hosts:
            h.free = huge_free(h)
        lab.create(lab.a, vcpus=vcpus, memory=128, disk='local', extra=f'redis aof={aof} dirty={dirty}', settings=settings)
        wait_port(lab.net, GUEST, 2323)
        self.sightings = Sightings(lab, lab.guest('cat /sys/class/net/eth0/address').strip())
        self.load = RedisLoad(lab.net, GUEST)
        self.registers = Registers(lab.net, GUEST)
        self.ended = False
        self.turns = [1]  # who should have been heard, in turn

    def protect(self, options=''):
        return protection.protect(self.home, self.away, f'{self.options} {options}')

    def status(self, host=None):
        return protection.status(host or self.home)

    def wait(self, what, host, good, seconds=60):
        return protection.wait(what, host, good, seconds)

    def protected(self):
        return self.wait('protection goes on', self.home, lambda r: r.get('state') == 'protected')

    def goes_on(self, what='the guest answers', seconds=90):
        """Every connection gets replies from now on, and the memory writer finds its memory right."""
        clients = [*self.load.all, *self.registers.clients]
        before = [c.replies for c in clients]
        retry(what, lambda: self.errors() or all(c.replies >= b + 3 for c, b in zip(clients, before)), seconds)
        expect_eq(self.errors(), [], f'{what}: connections lost or replies wrong')

    def errors(self):
        return self.load.errors() + self.registers.errors()

    def advances(self, epochs=5):
        """Checkpoints go on."""
        since = self.status()['epoch']
        return self.wait('checkpoints go on', self.home, lambda r: r.get('state') == 'protected' and r['epoch'] >= since + epochs)

    def one_copy(self):
        """Exactly one host runs the guest, and it is the one we think."""
        expect_eq([h.number for h in self.lab.hosts if h.alive() and protection.runs(h)], [self.home.number], 'hosts that run the guest')

    def well(self):
        """One copy, connections live, every acknowledged write there, memory right."""
        self.goes_on()
        self.one_copy()
        expect_eq(self.load.audit(), [], 'acknowledged writes')
        writer_reports(self.lab, self.home)
        expect_eq(self.sightings.hosts(), self.turns, 'hosts that spoke in the name of the guest, in turn')

    def swap(self):
        self.home, self.away = self.away, self.home
        self.turns.append(self.home.number)

    def takeover(self, seconds=60):
        """The away host takes over; what it says about that."""
        row = protection.wait_takeover(self.away, seconds=seconds)
        self.swap()
        return row

    def kill_home(self):
        self.home.kill()
        row = self.takeover()
        print(f'   host {self.away.number} killed: detected {row["detected_ms"]} ms, key {row["claimed_ms"]} ms, running {row["running_ms"]} ms', flush=True)
        self.well()
        return row

    def disks_equal(self, seconds=60):
        """The guest's disk and its replica, byte by byte. Nothing may be writing to them."""
        digest = lambda h: hashlib.sha256(h.disks[0].read_bytes()).hexdigest()
        retry('the replica equals the disk', lambda: digest(self.home) == digest(self.away), seconds)

    def end(self):
        """The load ends and is judged, once."""
        if not self.ended:
            self.ended = True
            expect_eq(self.load.stop() + self.registers.stop(), [], 'connections, acknowledged writes, the order of events')
            print(f'   {self.load.replies()} replies and {len(self.registers.history())} operations on registers checked', flush=True)

    def quiet(self):
        """The load and everything that writes in the guest end, so that disk and replica can be compared."""
        self.end()
        self.lab.guest('kill $(cat /tmp/redis.pid) $(pidof memory-writer); sleep 1; sync')


@contextlib.contextmanager
def scene(limit=900, **options):
    with Lab(hosts=2, local_disks=True, limit=limit) as lab:
        s = Scene(lab, **options)
        s.goes_on('the load runs')
        yield s
        s.end()


def huge_free(host):
    return int(host.sh('cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'))


def writer_reports(lab, host, seconds=90):
    """Two new reports of the memory writer, never a MISMATCH."""
    text = lambda: lab.console(host)
    before = len(re.findall('WRITER ok', text()))
    retry('reports of the memory writer', lambda: MISMATCH in text() or len(re.findall('WRITER ok', text())) >= before + 2, seconds)
    expect(MISMATCH not in text(), 'the memory writer found wrong memory: ' + text()[-300:])


def keep_busy(host, seconds, processes=4):
    """Busy loops in a control domain, for so long."""
    host.sh(f'for i in $(seq {processes}); do timeout {seconds} yes >/dev/null 2>&1 & done')
    return time.monotonic() + seconds
