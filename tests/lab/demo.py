"""./run demo: a Debian guest with Redis and a memory writer moves between two hosts and back under load from outside."""
import json, re, signal, sys, time
from . import images
from .client import RedisLoad
from .lab import Lab
from .tables import print_table

GUEST = '10.77.1.10'


def say(text):
    print(f'[{time.monotonic() - BEGAN:5.1f} s] {text}', flush=True)


def progress():
    """Prints a line now and then from the JSON lines of `proa migrate --json --progress`."""
    last = [0.0]

    def show(line):
        try:
            p = json.loads(line)
        except ValueError:
            return
        if 'sent_bytes' in p and time.monotonic() - last[0] > 1:
            last[0] = time.monotonic()
            left = f'{p["eta_ms"] / 1e3:.1f} s left' if 'eta_ms' in p else '-'
            say(f'   round {p["round"] + 1}: {p["percent"]:3.0f} %, {p["sent_bytes"] / 2**20:6.1f} MB sent, {p["mb_per_s"]:5.1f} MB/s, '
                f'guest dirties {p["dirty_mb_per_s"]:.1f} MB/s, {left}')
    return show


def move(load, source, target):
    say(f'proa migrate g1 {target.address}   (on host {source.number})')
    since = time.monotonic()
    out, code = source.run(f'proa migrate g1 {target.address} --json --progress', 200, on_line=progress())
    if code != 0:
        raise SystemExit(f'demo: migration failed ({code}): {out[-600:]}')
    result = json.loads(out.strip().splitlines()[-1])
    time.sleep(2)
    result['gap_ms'] = load.longest_gap_ms(since)
    say(f'   done: downtime {result["downtime_ms"]:.0f} ms, longest gap seen from outside {result["gap_ms"]:.0f} ms')
    return result


def table(moves):
    head = ('move', 'rounds', 'pages', 'zero', 'MB sent', 'total s', 'downtime ms', 'outside gap ms')
    rows = [(name, str(len(m['rounds'])), str(sum(r['pages'] for r in m['rounds'])), str(sum(r['zero'] for r in m['rounds'])),
             f'{m["wire_bytes"] / 2**20:.1f}', f'{m["total_ms"] / 1e3:.1f}', f'{m["downtime_ms"]:.0f}', f'{m["gap_ms"]:.0f}') for name, m in moves]
    print_table(head, rows)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say('building the guest\'s disk with Redis, booting two emulated hosts with proa-hv')
    images.guest_disk()
    with Lab(hosts=2, disk=True) as lab:
        say(f'hosts are up ({lab.a.boot_seconds:.1f} s); keys for mutual TLS, then proad on both')
        lab.start_daemons()
        say('proa create g1: Debian\'s kernel, 2 vCPUs, 192 MiB, Redis, a memory writer (16 MiB at 2 MiB/s)')
        lab.create(lab.a, vcpus=2, memory=192, disk=True, extra='redis dirty=16,2')
        print(lab.a.sh('proa list'), end='')
        say('a client outside both hosts connects: 3 writers that check every reply, 1 probe')
        load = RedisLoad(lab.net, GUEST)
        time.sleep(3)
        say(f'{load.replies()} replies so far')
        moves = [('1 -> 2', move(load, lab.a, lab.b)), ('2 -> 1', move(load, lab.b, lab.a))]
        print(lab.a.sh('proa list'), end='')
        wrong = load.stop()
        writer = re.findall(r'WRITER (?:ok|MISMATCH|start).*', lab.console(lab.a))
        print()
        table(moves)
        print(f'\nreplies checked: {load.replies()}; connections lost or replies wrong: {len(wrong)}')
        print(f'memory writer in the guest: {writer[-1] if writer else "silent"}')
        if any('MISMATCH' in w for w in writer) or not writer or 'ok' not in writer[-1]:
            wrong.append('the memory writer found wrong memory, or died')
        for w in wrong:
            print(f'WRONG: {w}')
    print('demo: ' + ('FAILED' if wrong else f'all promises kept, {time.monotonic() - BEGAN:.0f} s'))
    return 1 if wrong else 0


BEGAN = time.monotonic()
if __name__ == '__main__':
    sys.exit(main())
