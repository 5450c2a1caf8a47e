"""High availability in numbers: what a pause costs against what the guest has dirtied, how many checkpoints a second, what
they take from the guest and add to a request, how long a failover is. Everything is compared within one run."""
import re, statistics, time
from tests.lab import images, protection
from tests.lab.client import Connection, RedisLoad, command, wait_port
from tests.lab.lab import Lab, LabError
from tests.lab.registers import Registers
from . import failover_chart

GUEST, WINDOW = '10.77.1.10', 8
INTERVALS = {10: '100ms', 20: '50ms', 40: '25ms'}  # checkpoints a second: interval
DIRTY = (1, 2, 4, 8, 16, 32, 64)
# A line each 50,000 turns of a loop that touches next to no memory.
COUNTER = "awk 'BEGIN { for (;;) if (++n % 50000 == 0) { print n; fflush() } }' >/tmp/count 2>/dev/null &"


def pair(memory=128, extra='', vcpus=1):
    lab = Lab(hosts=2, memory=1536, huge=100 + memory // 2, local_disks=True, limit=1800)
    try:
        lab.start_daemons(witness='etcd')
        lab.create(lab.a, vcpus=vcpus, memory=memory, disk='local', extra=extra)
        wait_port(lab.net, GUEST, 2323)
        return lab
    except BaseException:
        lab.close()
        raise


def pause_against_dirty_pages():
    """The guest rewrites so many MiB again and again, faster than an epoch is long, and is left alone meanwhile: asking for the
    status takes the host's CPU, and at 64 MiB there are few pauses to tell its effect from theirs."""
    with pair(memory=192) as lab:
        # A CPU that idles stops sooner than one that runs: whatever is dirtied, this one runs when the pause comes.
        lab.guest("nice -n 19 sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null &")
        result = []
        for mib in DIRTY:
            lab.guest(f'killall memory-writer 2>/dev/null; memory-writer {mib} {mib * 20} >/tmp/writer 2>&1 </dev/null &')
            protection.protect(lab.a, lab.b, '--interval 250ms')
            time.sleep(4 * WINDOW)
            row = protection.status(lab.a)
            result.append({'mib': mib, 'pages': row['dirty_pages_last'], 'pause_ms_p50': round(row['pause_ms_p50'], 2), 'pause_ms_p99': round(row['pause_ms_p99'], 2),
                           'copied_pages': row['copied_pages_last'], 'checkpoints_per_s': round(row['checkpoints_per_s'], 1),
                           'mib_per_s': round(row['bytes_per_s'] / 2**20, 1)})
            print(f'   {result[-1]}', flush=True)
            lab.a.sh('proa unprotect g1')
            if 'MISMATCH' in lab.guest('cat /tmp/writer'):
                raise LabError('the memory writer found wrong memory')
        return result


class Pipeline(Connection):
    """As many requests as the server can take: `depth` SETs at once, then their replies."""
    DEPTH = 512

    def step(self):
        self.sock.sendall(b''.join(command('SET', f'p{i}', 'v' * 32) for i in range(self.DEPTH)))
        for _ in range(self.DEPTH):
            assert self.reader.reply() == b'OK', 'SET was not acknowledged'
            self.replies += 1


class Counter:
    """One loop that counts; nothing else happens in the guest: next to nothing to copy, and a CPU that is always wanted."""
    name, extra = 'counting loop', ''

    def start(self, lab):
        lab.guest(COUNTER)

    def throughput(self, lab):
        """Turns a second, by the guest's own clock, which goes on through pauses."""
        out = lab.guest(f'a=$(tail -n 1 /tmp/count); t=$(cut -d" " -f1 /proc/uptime); sleep {WINDOW}; '
                        'echo $a $(tail -n 1 /tmp/count) $t $(cut -d" " -f1 /proc/uptime)', timeout=WINDOW + 60).split()
        first, last, began, ended = map(float, out)
        return (last - first) / (ended - began)


class Redis:
    """Four connections that keep Redis busy, 512 requests each in flight: more than it serves in an epoch."""
    name, extra = 'Redis (pipelined SET)', 'redis'

    def start(self, lab):
        wait_port(lab.net, GUEST, 6379)
        self.clients = [Pipeline(lab.net, GUEST, 6379, 0, 60) for _ in range(4)]
        for c in self.clients:
            c.start()

    def throughput(self, lab):
        before, since = sum(c.replies for c in self.clients), time.monotonic()
        time.sleep(WINDOW)
        if wrong := [c.error for c in self.clients if c.error]:
            raise LabError(f'Redis: {wrong[0]}')
        return (sum(c.replies for c in self.clients) - before) / (time.monotonic() - since)


class Writer:
    """A program that does nothing but dirty 16 MiB, page after page."""
    name, extra = 'memory writer', 'dirty=16,200000'

    def start(self, lab):
        lab.wait_console(lab.a, 'g1', 'WRITER ok')

    def throughput(self, lab):
        """Pages a second, by the reports that the guest prints."""
        before, since = self.writes(lab), time.monotonic()
        time.sleep(WINDOW)
        after, until = self.writes(lab), time.monotonic()
        return (after - before) / (until - since)

    @staticmethod
    def writes(lab):
        return int(re.findall(r'WRITER ok .*writes=(\d+)', lab.console(lab.a))[-1])


def fastest():
    """Checkpoints a second that are reached with a guest that does nothing: what the way to the backup and back allows."""
    result = []
    with pair() as lab:
        for wanted, interval in ((40, '25ms'), (100, '10ms'), (200, '5ms')):
            protection.protect(lab.a, lab.b, f'--interval {interval}')
            time.sleep(2)
            first, since = protection.status(lab.a)['epoch'], time.monotonic()
            time.sleep(WINDOW)
            row, until = protection.status(lab.a), time.monotonic()
            lab.a.sh('proa unprotect g1')
            result.append({'wanted_per_s': wanted, 'reached_per_s': round((row['epoch'] - first) / (until - since), 1),
                           'pause_ms_p50': round(row['pause_ms_p50'], 2), 'pause_ms_p99': round(row['pause_ms_p99'], 2), 'dirty_pages': row['dirty_pages_last']})
            print(f'   {result[-1]}', flush=True)
    return result


def overhead(loads=(Counter, Redis, Writer)):
    """Throughput at 10, 20 and 40 checkpoints a second as a share of the same guest's without, just before and just after."""
    result = []
    for load in (kind() for kind in loads):
        with pair(extra=load.extra) as lab:
            load.start(lab)
            time.sleep(3)
            before = load.throughput(lab)
            for wanted, interval in INTERVALS.items():
                protection.protect(lab.a, lab.b, f'--interval {interval}')
                time.sleep(2)
                epoch, since = protection.status(lab.a)['epoch'], time.monotonic()
                kept = load.throughput(lab)
                row, until = protection.status(lab.a), time.monotonic()
                lab.a.sh('proa unprotect g1')
                time.sleep(1)
                after = load.throughput(lab)
                bare, before = (before + after) / 2, after
                result.append({'guest': load.name, 'wanted_per_s': wanted, 'reached_per_s': round((row['epoch'] - epoch) / (until - since), 1),
                               'throughput': round(kept), 'bare': round(bare), 'overhead': round(1 - kept / bare, 3),
                               'pause_ms_p50': round(row['pause_ms_p50'], 2), 'pause_ms_p99': round(row['pause_ms_p99'], 2), 'dirty_pages': row['dirty_pages_last']})
                print(f'   {result[-1]}', flush=True)
    return result


def latency():
    """What protection adds to a request, one at a time."""
    with pair(extra='redis') as lab:
        load, result = RedisLoad(lab.net, GUEST), []

        def take(name):
            time.sleep(2)
            since = time.monotonic()
            time.sleep(WINDOW)
            p50, p99 = load.request_ms(since)
            result.append({'interval': name, 'p50_ms': round(p50, 1), 'p99_ms': round(p99, 1), 'added_p50_ms': round(p50 - result[0]['p50_ms'], 1) if result else 0})
            print(f'   {result[-1]}', flush=True)
        take('unprotected')
        for interval in (*INTERVALS.values(), 'adaptive'):
            protection.protect(lab.a, lab.b, f'--interval {interval}')
            take(interval)
            lab.a.sh('proa unprotect g1')
        if wrong := load.stop():
            raise LabError(f'{wrong[0]}')
        return result


def beginning():
    """What a client feels of the beginning of protection; it must not grow with the guest. Medians of three."""
    result = []
    for mib in (128, 512):
        with pair(memory=mib, vcpus=2, extra='redis aof=everysec dirty=8,2') as lab:
            load = RedisLoad(lab.net, GUEST)
            time.sleep(3)
            gaps, took, first = [], [], []
            for _ in range(3):
                since = time.monotonic()
                protection.protect(lab.a, lab.b)
                took.append(time.monotonic() - since)
                time.sleep(1)
                gaps.append(load.longest_gap_ms(since))
                events = str(protection.status(lab.a)['events'])
                first.append(int(re.search('checkpoint 1 is there: ([0-9]+) pages', events).group(1)))
                lab.a.sh('proa unprotect g1')
                time.sleep(2)
            wrong = load.stop()
            if wrong:
                raise LabError(f'a promise was broken: {wrong[0]}')
        result.append({'guest_mib': mib, 'command_s': round(statistics.median(took), 1), 'outside_gap_ms': round(statistics.median(gaps)),
                       'checkpoint_1_pages': round(statistics.median(first))})
        print(f'   {result[-1]}', flush=True)
    return result


def failover(out, draw):
    """The host that runs the guest is killed; out: where the chart goes."""
    with pair(memory=192, vcpus=2, extra='redis aof=everysec dirty=16,2') as lab:
        load, registers = RedisLoad(lab.net, GUEST, writers=8, rate=200), Registers(lab.net, GUEST)
        protection.protect(lab.a, lab.b)
        time.sleep(5)
        since = time.monotonic()
        lab.a.kill()
        f = protection.wait_takeover(lab.b)
        time.sleep(4)
        gap, wrong = load.longest_gap_ms(since), load.audit()
        wrong += load.stop() + registers.stop()
        if wrong:
            raise LabError(f'a promise was broken: {wrong[0]}')
        if draw:
            end = max(4, f['running_ms'] / 1e3 + 2)
            times = [at - since for c in load.all for at, _ in c.times]
            marks = [('killed', 0.0), ('noticed', f['detected_ms'] / 1e3), ('key held', f['claimed_ms'] / 1e3), ('running', f['running_ms'] / 1e3)]
            (out / 'failover.svg').write_text(failover_chart.svg(
                failover_chart.buckets(times, -2, end), -2, marks,
                'Redis in a protected guest, 9 connections; host 1 is killed, host 2 goes on from the last checkpoint. No connection breaks.'))
        return {**{k: round(f[k]) for k in ('detected_ms', 'claimed_ms', 'running_ms')}, 'outside_gap_ms': round(gap)}


def run(repeat=1, out=images.ROOT / 'build' / 'bench'):
    result = {}
    for name, take in (('beginning', beginning), ('pause', pause_against_dirty_pages), ('fastest', fastest), ('overhead', overhead), ('latency', latency)):
        print(f'   -- {name}', flush=True)
        result[name] = take()
    print('   -- failover', flush=True)
    result['failover'] = [failover(out, i == 0) for i in range(max(repeat, 1))]
    least, most = (f(r['pause_ms_p50'] for r in result['pause']) for f in (min, max))
    result['pause_most_to_least'] = round(most / least, 2)
    return result


def tables(result):
    """[(title, rows)]; a row is a dict whose keys are the columns."""
    return [('the beginning of protection', result['beginning']),
            (f'pause against dirty pages (most / least of the medians: {result["pause_most_to_least"]}; aim: 2)', result['pause']),
            ('checkpoints a second with an idle guest', result['fastest']), ('throughput at 10, 20, 40 checkpoints/s', result['overhead']),
            ('a request, one at a time', result['latency']), ('failover', result['failover'])]
