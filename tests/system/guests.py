"""Bare-metal test guests (tests/guests): on plain QEMU, and on a lab's hosts."""
import json, subprocess
from tests.lab import images
from tests.lab.lab import LabError
from . import retry

IMAGES = images.BUILD / 'tests' / 'guests'


def plain(name, arguments='', cpus=1, memory=64, timeout=60, cpu='cortex-a57'):
    """Runs a guest that powers itself off on QEMU's own virt machine; its output. One TCG thread: spinning vCPUs yield."""
    r = subprocess.run(['qemu-system-aarch64', '-M', 'virt,gic-version=3', '-cpu', cpu, '-smp', str(cpus), '-m', str(memory),
                        '-accel', 'tcg,thread=single', '-nographic', '-no-reboot', '-kernel', IMAGES / f'{name}.img',
                        '-append', arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    return r.stdout


def create(host, image, name='g1', arguments='', vcpus=1, memory=16, settings=()):
    """proa create of a bare-metal guest: nothing but a kernel and its command line."""
    config = '\\n'.join([f'name = "{name}"', f'kernel = "/root/{image}.img"', f'memory = {memory}', f'vcpus = {vcpus}',
                         f'extra = "{arguments}"', *settings])
    host.sh(f"rm -f /run/proa/log/{name}.console; printf '{config}\\n' > /tmp/{name}.cfg && proa create /tmp/{name}.cfg")


def console(host, name='g1'):
    return host.run(f'cat /run/proa/log/{name}.console 2>/dev/null')[0]


def gone(host, name='g1'):
    return host.run(f'proa list {name} >/dev/null 2>&1')[1] != 0


def check_healthy(host):
    """The control domain and proa-hv have nothing to complain about."""
    for source, log in (('control domain', host.sh('dmesg')), ('proa-hv', host.sh('proa dmesg')), ('console', host.log.read_text(errors='replace'))):
        for word in ('PANIC', 'Oops', 'BUG:', 'Call trace', 'detected stalls', 'SError', 'Unable to handle'):
            if word in log:
                raise LabError(f'{source} says {word}:\n' + '\n'.join(l for l in log.splitlines() if word in l)[:800])


def says(host, name, text, seconds=90):
    return retry(f'{name} prints {text!r}', lambda: text in console(host, name) and console(host, name), seconds)


def count(host, name, text):
    return console(host, name).count(text)


def goes_on(host, name, text, lines=3, seconds=90):
    """The guest says `text` a few more times from now on."""
    before = count(host, name, text)
    retry(f'{name} goes on to print {text!r}', lambda: count(host, name, text) >= before + lines, seconds)


def free_pages(host):
    return json.loads(host.sh('proa --json info'))['free_pages']


def huge_pages(host):
    return int(host.sh('cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'))
