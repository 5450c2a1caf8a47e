"""What leaving a guest costs, and what tracking its writes costs, by the guest's own counter (tests/guests/bench.cpp)."""
import json, re, statistics, time
from tests.lab.lab import Lab
from tests.system import retry
from tests.system.guests import console, create

TURNS = 9  # every mode is measured so often, in turns, for a millisecond each; the least counts: what disturbs only adds


def take(host, after):
    """The measurements of one run of the guest; `after`: runs that are over already."""
    def ready():
        text = console(host)
        return text if text.count('BENCH ready') > after else None
    text = retry('the bench guest to be ready', ready, 120)
    run = text.split('BENCH ready')[after]
    return {m[1]: int(m[2]) for m in re.finditer(r'BENCH (\w+) (\d+)', run)}


def run():
    with Lab(hosts=1, cpus=2) as lab:
        lab.start_daemons(tls=False)
        create(lab.a, 'bench', vcpus=2, memory=64, arguments='pages=8192')
        runs, modes, harvests = take(lab.a, 0), {'off': [], 'hardware': [], 'write-protect': []}, {'hardware': [], 'write-protect': []}
        over = 1
        for _ in range(TURNS):
            for mode in modes:
                lab.a.sh(f'proa dirty-log g1 {mode}')
                lab.a.run("(sleep 0.3; printf 'x\\n'; sleep 0.5; printf '\\035') | timeout 3 proa console g1", 10)
                modes[mode].append(take(lab.a, over)['first_write'])
                over += 1
                if mode != 'off':
                    h = json.loads(lab.a.sh('proa --json dirty-log g1 harvest'))
                    if h['pages']:
                        harvests[mode].append(h['ns'] / h['pages'])
        lab.a.sh('proa dirty-log g1 off')
        first = {m: min(v) for m, v in modes.items()}
        size = json.loads(lab.a.sh('proa --json info'))
    return {'exit_ns': {k: v for k, v in runs.items() if k not in ('first_write', 'next_write')},
            'first_write_ns': first,
            'first_write_ratio': {m: round(first[m] / first['off'], 2) for m in ('hardware', 'write-protect')},
            'harvest_ns_per_page': {m: round(statistics.median(v), 1) for m, v in harvests.items() if v},
            'host': size}


def boot_times():
    """Seconds from QEMU's start to the control domain's userland, and from `proa create` to a Debian guest's userland."""
    with Lab(hosts=1) as lab:
        lab.start_daemons(tls=False)
        since = time.monotonic()
        lab.create(lab.a)
        return {'host_to_userland_s': round(lab.a.boot_seconds, 2), 'guest_to_userland_s': round(time.monotonic() - since, 2)}
