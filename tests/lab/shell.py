"""./run shell: two emulated hosts to play with; tmux windows hold their consoles and a shell on this machine. Ends when the
tmux session does (tmux kill-session, or leave every window)."""
import os, signal, subprocess, sys, time
from pathlib import Path
from . import images
from .lab import Lab

HINT = """Two hosts run proa-hv with Debian's kernel as control domain: windows host1 and host2 (Ctrl-b n switches, Ctrl-b d ends all).
On host1:
    proa create /root/g1.cfg          a Debian guest with Redis at 10.77.1.10
    proa list; proa console g1        (Ctrl-] leaves the console)
    migrate g1 10.77.0.2 --progress
    proa help
"""
CONFIG = r'''name = \"g1\"\nkernel = \"/root/Image\"\nramdisk = \"/root/guest.cpio\"\nmemory = 192\nvcpus = 2\nvif = [ \"bridge=br0\" ]\ndisk = [ \"phy:/dev/vda,xvda,w\" ]\nextra = \"console=hvc0 kpti=0 quiet ip=10.77.1.10 redis dirty=16,2\"\n'''


def tmux(*args, check=True):
    return subprocess.run(['tmux', '-L', NAME, *args], check=check, capture_output=True, text=True).stdout


def leave(number, _):
    """SIGTERM, or SIGHUP when the terminal's window is closed: the hosts end all the same."""
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    sys.exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    print('booting two emulated hosts', flush=True)
    images.guest_disk()
    with Lab(hosts=2, disk=True, interactive=True, limit=24 * 3600, name=NAME) as lab:
        lab.start_daemons()
        for h in lab.hosts:
            h.sh(f'printf "{CONFIG}" > /root/g1.cfg')
        attach = Path(__file__).with_name('attach.py')
        tmux('new-session', '-d', '-s', 'proa', '-n', 'host1', f'{sys.executable} {attach} {lab.a.socket}')
        tmux('new-window', '-t', 'proa', '-n', 'host2', f'{sys.executable} {attach} {lab.b.socket}')
        hint = images.OUT / 'shell-hint'
        hint.write_text(HINT)
        tmux('new-window', '-t', 'proa', '-n', 'help', f'cat {hint}; exec sh')
        tmux('set-option', '-g', 'detach-on-destroy', 'on')
        print(HINT, flush=True)
        try:
            if sys.stdin.isatty() and sys.stdout.isatty():
                subprocess.run(['tmux', '-L', NAME, 'attach', '-t', 'proa'])
            else:
                print(f'no terminal here; from one: tmux -L {NAME} attach -t proa   (ends with: tmux -L {NAME} kill-server)', flush=True)
                while subprocess.run(['tmux', '-L', NAME, 'has-session', '-t', 'proa'], capture_output=True).returncode == 0:
                    time.sleep(0.5)
        finally:
            tmux('kill-server', check=False)
    return 0


NAME = f'proa-shell-{os.getpid()}'
if __name__ == '__main__':
    sys.exit(main())
