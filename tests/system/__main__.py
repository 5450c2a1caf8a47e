"""Runs the system tests: python3 -m tests.system [--ci] [--list] [--fail-fast] [PATTERN...]; as root. Each case runs in a
process of its own under a time limit; whatever it leaves (emulators, namespaces) is ended by its process group's id."""
import argparse, importlib, os, pkgutil, re, signal, subprocess, sys, time
from pathlib import Path
from . import harness
from tests.lab import images
from tests.lab.host import DISKS

ROOT = images.ROOT


def load():
    for module in sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith('cases_')):
        before = len(harness.CASES)
        importlib.import_module(f'tests.system.{module}')
        for i in range(before, len(harness.CASES)):
            harness.CASES[i] = (module.removeprefix('cases_'), *harness.CASES[i])
    return {f'{area}.{f.__name__}': (f, ci, limit, alone) for area, f, ci, limit, alone in harness.CASES}


def run_one(name, function):
    """In the child: the case itself."""
    try:
        function()
    except BaseException as e:  # noqa: BLE001 - whatever it was, the case failed
        if not isinstance(e, harness.Failure):
            import traceback
            traceback.print_exc()
        print(f'{type(e).__name__}: {e}', flush=True)
        os._exit(1)
    sys.stdout.flush()
    import atexit
    atexit._run_exitfuncs()
    os._exit(0)


def sweep(session):
    """Ends what a case left behind: its session's processes, and the disks and namespaces named after its pid."""
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / 'environ').read_bytes()
            except OSError:
                continue
            if f'PROA_CASE={session}'.encode() + b'\0' in environ and int(entry.name) != os.getpid():
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    pass
    for disk in DISKS.glob(f'proa-{session}-*'):
        disk.unlink(missing_ok=True)
    for line in subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True).stdout.splitlines():
        if line.startswith(f'proa-{session}-'):
            subprocess.run(['ip', 'netns', 'del', line.split()[0]], capture_output=True)


def start(name):
    log = open(ROOT / 'build' / 'logs' / f'case-{name}.log', 'wb')
    child = subprocess.Popen([sys.executable, '-m', 'tests.system', '--child', name], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                             start_new_session=True, preexec_fn=lambda: os.environ.__setitem__('PROA_CASE', str(os.getpid())))
    return child


def main():
    p = argparse.ArgumentParser(prog='tests.system', description='system tests on emulated hosts')
    p.add_argument('--ci', action='store_true', help="only the cases of CI's part")
    p.add_argument('--list', action='store_true')
    p.add_argument('--fail-fast', action='store_true')
    p.add_argument('--child', help=argparse.SUPPRESS)
    p.add_argument('pattern', nargs='*', help='regular expressions on area.case')
    args = p.parse_args()
    cases = load()
    if args.child:
        run_one(args.child, cases[args.child][0])
    chosen = {n: c for n, c in cases.items()
              if (not args.ci or c[1]) and (not args.pattern or any(re.search(q, n) for q in args.pattern))}
    if args.list:
        for n, c in chosen.items():
            print(f'{n}{"" if c[1] else "  (not in CI)"}')
        return 0
    if not chosen:
        print('no case has that name', file=sys.stderr)
        return 2
    (ROOT / 'build' / 'logs').mkdir(parents=True, exist_ok=True)
    images.host_ramdisk()
    passed, failed, began = 0, [], time.time()
    for i, (name, (_, _, limit, _)) in enumerate(chosen.items(), 1):
        print(f'[{i}/{len(chosen)}] {name} ...', end='', flush=True)
        since, child = time.time(), None
        try:
            child = start(name)
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = f'no end within {limit} s'
        except KeyboardInterrupt:
            print(' interrupted')
            os.killpg(child.pid, signal.SIGKILL)
            sweep(child.pid)
            return 130
        if code != 0 and child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        sweep(child.pid)
        print(f' {"passed" if code == 0 else "FAILED"} ({time.time() - since:.1f} s)', flush=True)
        if code == 0:
            passed += 1
            continue
        failed.append(name)
        log = ROOT / 'build' / 'logs' / f'case-{name}.log'
        print(f'    {code if isinstance(code, str) else ""}' + '    '.join(['', *log.read_text(errors='replace').splitlines(True)[-25:]]), flush=True)
        print(f'    (whole log: {log.relative_to(ROOT)})')
        if args.fail_fast:
            break
    print(f'system tests: {passed} passed, {len(failed)} failed in {time.time() - began:.0f} s' + (f': {", ".join(failed)}' if failed else ''))
    return 1 if failed else 0


sys.exit(main())
