"""Runs the system tests: python3 -m tests.system [--ci] [--list] [--fail-fast] [PATTERN...]; as root. Each case runs in a
process of its own under a time limit; whatever it leaves (emulators, namespaces) is ended by its process group's id. As many
run at once as there is room for their hosts."""
import argparse, importlib, os, pkgutil, re, shutil, signal, subprocess, sys, time
from pathlib import Path
from . import harness
from tests.lab import etcd, images
from tests.lab.host import DISKS

ROOT = images.ROOT


def load():
    for module in sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith('cases_')):
        before = len(harness.CASES)
        importlib.import_module(f'tests.system.{module}')
        for i in range(before, len(harness.CASES)):
            harness.CASES[i] = (module.removeprefix('cases_'), *harness.CASES[i])
    return {f'{area}.{f.__name__}': (f, ci, limit, hosts) for area, f, ci, limit, hosts in harness.CASES}


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
    """Ends what a case left behind: its session's processes, and the disks, data and namespaces named after its pid."""
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
    for data in Path(etcd.DATA).glob(f'proa-{session}-*'):
        shutil.rmtree(data, ignore_errors=True)
    for line in subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True).stdout.splitlines():
        if line.startswith(f'proa-{session}-'):
            subprocess.run(['ip', 'netns', 'del', line.split()[0]], capture_output=True)


class Running:
    """A case on its way."""

    def __init__(self, name, limit, hosts):
        self.name, self.limit, self.hosts, self.since = name, limit, hosts, time.time()
        self.log = ROOT / 'build' / 'logs' / f'case-{name}.log'
        self.child = subprocess.Popen([sys.executable, '-m', 'tests.system', '--child', name], cwd=ROOT, stdout=self.log.open('wb'),
                                      stderr=subprocess.STDOUT, start_new_session=True,
                                      preexec_fn=lambda: os.environ.__setitem__('PROA_CASE', str(os.getpid())))

    def result(self):
        """None while it runs, else '' or why it failed."""
        code = self.child.poll()
        if code is None and time.time() - self.since > self.limit:
            self.end()
            return f'no end within {self.limit} s'
        return None if code is None else '' if code == 0 else f'exit code {code}'

    def end(self):
        """Whatever of it is still there."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        sweep(self.child.pid)

    def report(self, place, why):
        print(f'[{place}] {self.name} {"FAILED" if why else "passed"} ({time.time() - self.since:.1f} s)', flush=True)
        if why:
            tail = self.log.read_text(errors='replace').splitlines(True)[-25:]
            print('    '.join(['', f'{why}\n', *tail]) + f'    (whole log: {self.log.relative_to(ROOT)})', flush=True)


def room_for_hosts():
    """How many emulated hosts may run at once: each is a thread and a GiB. Two always: that is what most cases need."""
    gib = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30
    return max(2, min(len(os.sched_getaffinity(0)), gib))


def run_all(cases, room, fail_fast):
    """Starts what finds room, in their order; the names of those that failed."""
    waiting, running, done, failed = dict(cases), [], 0, []
    try:
        while running or waiting:
            used = sum(r.hosts for r in running)
            for name, (_, _, limit, hosts) in list(waiting.items()):
                if used + hosts <= room:
                    del waiting[name]
                    used += hosts
                    running.append(Running(name, limit, hosts))
            for r in list(running):
                if (why := r.result()) is not None:
                    running.remove(r)
                    r.end()
                    done += 1
                    r.report(f'{done}/{len(cases)}', why)
                    if why:
                        failed.append(r.name)
                        if fail_fast:
                            waiting.clear()
            time.sleep(0.05)
    finally:
        for r in running:
            r.end()
    return done, failed


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
    began = time.time()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way what runs is ended first
    try:
        done, failed = run_all(chosen, room_for_hosts(), args.fail_fast)
    except KeyboardInterrupt:
        print('interrupted')
        return 130
    print(f'system tests: {done - len(failed)} passed, {len(failed)} failed in {time.time() - began:.0f} s' + (f': {", ".join(failed)}' if failed else ''))
    return 1 if failed else 0


sys.exit(main())
