"""./run bench [PART...]: writes build/bench/result.json and prints tables. Parts: engine costs boot size downtime ha.
Ratios within one run are what counts; the machine is emulated and may be shared."""
import argparse, json, signal, statistics, subprocess, sys, time
from tests.lab import images
from tests.lab.tables import print_table
from . import downtime, guest_costs, ha

OUT = images.ROOT / 'build' / 'bench'


def engine(_):
    out = OUT / 'engine.json'
    subprocess.run([images.ROOT / 'build' / 'host-release' / 'bench' / 'engine-bench', '--benchmark_min_time=0.5', f'--benchmark_out={out}',
                    '--benchmark_out_format=json'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # By CPU time: GB/s per core, whoever else is on the machine.
    return {b['name']: {'gb_per_s': round(b['bytes_per_second'] / 1e9, 2), **({'wire_share': round(b['wire_share'], 3)} if 'wire_share' in b else {})}
            for b in json.loads(out.read_text())['benchmarks']}


def costs(_):
    return guest_costs.run()


def boot(_):
    return guest_costs.boot_times()


def size(_):
    elf = images.BUILD / 'hypervisor' / 'proa-hv.elf'
    rows = images.run('aarch64-linux-gnu-size', elf).splitlines()[1].split()
    return {'image_bytes': (images.BUILD / 'hypervisor' / 'proa-hv.img').stat().st_size, 'text_data_bss_bytes': int(rows[3])}


def downtimes(args):
    return downtime.run(tuple(args.rates), args.repeat)


def high_availability(args):
    return ha.run(args.repeat, OUT)


PARTS = {'engine': engine, 'size': size, 'boot': boot, 'costs': costs, 'downtime': downtimes, 'ha': high_availability}


def table(rows, columns):
    print_table([c for c, _ in columns], [[f(r) for _, f in columns] for r in rows], '   ')


def show(part, result):
    print(f'\n{part}')
    if part == 'ha':
        for title, rows in ha.tables(result):
            print(f'   {title}')
            table(rows, [(c, lambda r, c=c: str(r[c])) for c in rows[0]])
        return
    if part != 'downtime':
        for k, v in result.items():
            print(f'   {k}: {json.dumps(v)}')
        return
    table(result, [('who', lambda r: r['who']), ('dirty MiB/s', lambda r: str(r['dirty_mib_s'])),
                   ('outside blackout ms', lambda r: str(r.get('outside_blackout_ms', '-'))), ('outside total s', lambda r: str(r.get('outside_total_s', '-'))),
                   ('with start s', lambda r: str(r.get('outside_total_with_start_s', '-'))),
                   ('reported downtime ms', lambda r: f'{r.get("reported_downtime_ms", 0):.0f}'), ('rounds', lambda r: str(r.get('rounds', '-'))),
                   ('MiB sent', lambda r: f'{r.get("wire_mib", 0):.1f}'), ('idle gap ms', lambda r: str(r.get('idle_gap_ms', '-'))),
                   ('note', lambda r: r.get('failed', ''))])
    for rate in sorted({r['dirty_mib_s'] for r in result}):
        middle = {}
        for who in downtime.WHO:
            if rows := [r for r in result if r['who'] == who and r['dirty_mib_s'] == rate and 'failed' not in r]:
                middle[who] = [statistics.median(r[c] for r in rows)
                               for c in ('outside_blackout_ms', 'outside_total_s', 'outside_total_with_start_s')]
        for who, (blackout, total, with_start) in middle.items():
            peer = {'proa': 'kvm-tls', 'proa-plain': 'kvm'}.get(who)
            beside = ': {:.2f}, {:.2f} and {:.2f} of {}\'s'.format(*(x / y for x, y in zip(middle[who], middle[peer])), peer) if peer in middle else ''
            print(f'   at {rate} MiB/s, medians: {who} {blackout:.0f} ms, {total:.2f} s, {with_start:.2f} s with start{beside}')


def main():
    p = argparse.ArgumentParser(prog='./run bench', description=__doc__)
    p.add_argument('part', nargs='*', help=f'of {", ".join(PARTS)}; all if none')
    p.add_argument('--rates', type=int, nargs='+', default=[0, 5, 20], help='MiB/s the guest dirties (downtime)')
    p.add_argument('--repeat', type=int, default=1, help='how often each row is measured (downtime), each failover made (ha)')
    args = p.parse_args()
    if wrong := [x for x in args.part if x not in PARTS]:
        p.error(f'no part {wrong[0]}')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # labs close
    OUT.mkdir(parents=True, exist_ok=True)
    results = {'when': time.strftime('%Y-%m-%dT%H:%M:%S')}
    for part in args.part or PARTS:
        print(f'== {part}', flush=True)
        results[part] = PARTS[part](args)
        (OUT / 'result.json').write_text(json.dumps(results, indent=1) + '\n')
    for part in results.keys() - {'when'}:
        show(part, results[part])
    print(f'\nbench: results in {(OUT / "result.json").relative_to(images.ROOT)}')
    return 0


sys.exit(main())
