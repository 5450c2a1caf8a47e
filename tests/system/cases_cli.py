"""What an operator does with `proa` on one host (and, once, between two): every verb, the guest's power, consoles, disks,
and a daemon or a proa-vm that dies."""
import base64, json, re, time
from tests.lab.lab import Lab, LabError
from . import case, expect, expect_eq, retry

OK, FAILED, USAGE, NOT_FOUND, REFUSED, CANCELLED, TIMEOUT, UNREACHABLE = 0, 1, 2, 3, 4, 5, 7, 8
BOOTED = r'GUEST-USERLAND'
TUTORIAL = """\
kernel = "/root/Image"
ramdisk = "/root/guest.cpio"
name = "tutorial"
memory = 128
vcpus = 1
extra = "console=hvc0 root=/dev/xvda rw kpti=0 quiet ip=10.77.1.10"
disk = [ 'phy:/dev/loop0,xvda,w', 'file:/tmp/ro,xvdb,r' ]
vif = [ '' ]
"""


def one_host(**options):
    lab = Lab(hosts=1, **options)
    lab.start_daemons(tls=False)
    return lab


def ends(host, command, code, says=''):
    """Runs it, wants this exit code and (regular expression) output."""
    out, got = host.run(command)
    expect_eq(got, code, f'exit code of {command!r}, which said {out.strip()!r}')
    expect(re.search(says, out), f'{command!r} says {says!r}: {out.strip()!r}')
    return out


def put(host, path, text):
    host.sh(f'echo {base64.b64encode(text.encode()).decode()} | base64 -d > {path}')


def guests(host):
    return {g['name']: g for g in json.loads(host.sh('proa list --json'))}


def state(host, name='g1'):
    return guests(host).get(name, {}).get('state')


def huge_free(host):
    return int(host.sh('cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'))


def booted(lab, host, times, name='g1'):
    """Waits until the guest has come up for the `times`th time since its first start."""
    retry(f'boot number {times} of {name}', lambda: len(re.findall(BOOTED, lab.console(host, name))) >= times, 60)


def in_guest(lab, command):
    """Runs a command in a guest that may not have come quite as far as its agent."""
    end = time.time() + 30
    while True:
        try:
            return lab.guest(command)
        except (ConnectionError, TimeoutError):
            if time.time() > end:
                raise
            time.sleep(0.3)


@case(hosts=1)
def verbs_do_what_they_say_and_end_with_their_codes():
    with one_host() as lab:
        host, free = lab.a, huge_free(lab.a)
        lab.create(host, vcpus=2, settings='frobnicate = 1')
        ends(host, 'proa create /tmp/g1.cfg', REFUSED, 'a guest named g1 runs here already')
        table = host.sh('proa list').splitlines()
        expect_eq(table[0].split(), ['Name', 'ID', 'Mem', 'VCPUs', 'State', 'Time(s)'], "xl's columns")
        expect(re.fullmatch(r'g1 +1 +128 +2 +[r-][b-]---- +\d+\.\d', table[1]), f'a row like xl\'s: {table[1]!r}')
        facts = json.loads(host.sh('proa info g1 --json'))
        expect_eq((facts['state'], facts['memory_mib'], facts['slot']), ('running', 128, 1), 'info of the guest')
        expect_eq(json.loads(host.sh('proa info --json'))['pcpus'], 2, "the host's CPUs")

        # Pinning moves vCPUs, and they stay.
        in_guest(lab, 'yes >/dev/null 2>&1 & yes >/dev/null 2>&1 &')
        for cpu in (1, 0):
            host.sh(f'proa vcpu-pin g1 all {cpu}')
            where = lambda: {v['pcpu'] for v in guests(host)['g1']['vcpu_list']}
            retry(f'both vCPUs on CPU {cpu}', lambda: where() == {cpu}, 10)
            expect_eq({v['affinity'] for v in guests(host)['g1']['vcpu_list']}, {1 << cpu}, 'affinity')
        usage = json.loads(host.sh('proa top -d 3 -n 1 --json'))['guests'][0]
        expect(15 < usage['cpu_percent'] <= 110, f'two busy vCPUs share one CPU: {usage["cpu_percent"]:.0f} %')
        host.sh('proa vcpu-pin g1 0 0; proa vcpu-pin g1 1 1')
        usage = json.loads(host.sh('proa top -d 3 -n 1 --json'))['guests'][0]
        expect(all(v['cpu_percent'] > 15 for v in usage['vcpu_list']), f'each has a CPU of its own: {usage["vcpu_list"]}')
        expect(re.search(r'g1 .* 0  *\d.*\n.*g1 .* 1 ', host.sh('proa vcpu-list')), 'vcpu-list has a line a vCPU')
        ends(host, 'proa vcpu-pin g1 0 17', USAGE, 'pin vCPU')
        ends(host, 'proa vcpu-pin g1 7 0', USAGE, 'no vCPU 7')
        ends(host, 'proa vcpu-pin g1 0 1-', USAGE, 'not a CPU list')

        # A paused guest stands still and goes on.
        ticks = lambda: guests(host)['g1']['run_ticks']
        host.sh('proa pause g1')
        before = ticks()
        host.sh('sleep 1')
        expect_eq(ticks(), before, 'a paused guest uses no CPU')
        expect(' --p--- ' in host.sh('proa list g1'), 'p for paused')
        ends(host, 'proa pause g1', REFUSED, 'is paused, not running')
        ends(host, 'proa shutdown g1', REFUSED, 'proa unpause')
        host.sh('proa unpause g1')
        in_guest(lab, 'killall yes')
        ends(host, 'proa unpause g1', REFUSED)

        # proa-hv's log.
        expect('proa-hv' in host.sh('proa dmesg'), "proa-hv's log begins with its name")
        host.sh('proa dmesg --clear')
        expect_eq(host.sh('proa dmesg'), '', 'cleared')

        # Errors name the thing.
        for verb in ('info', 'console', 'pause', 'unpause', 'shutdown', 'reboot', 'destroy', 'vcpu-list'):
            ends(host, f'proa {verb} nobody', NOT_FOUND, 'no guest named nobody')
        ends(host, 'proa pause', USAGE, 'proa pause --help')
        ends(host, 'proa --socket /nowhere list', UNREACHABLE, 'is proad running')
        config = lambda text: host.sh(f"printf '{text}\\n' > /tmp/bad.cfg")
        config('name = "g2"\\nkernel = "/root/Image"\\nmemory = "lots"')
        ends(host, 'proa create /tmp/bad.cfg', USAGE, r'/tmp/bad.cfg:3: memory: must be a number')
        config('name = "g2"\\nkernel = "/root/Imagine"')
        ends(host, 'proa create /tmp/bad.cfg', USAGE, 'cannot read /root/Imagine')
        config('name = "g2"\\nkernel = "/root/Image"\\nmemory = 4096')
        ends(host, 'proa create /tmp/bad.cfg', FAILED, 'huge pages')
        config('name = "g2"\\nmemory = 32\\nkernel = "/root/Image"\\ndisk = [ "phy:/dev/nothing,xvda,w" ]')
        ends(host, 'proa create /tmp/bad.cfg', FAILED, 'cannot open disk /dev/nothing')
        config('name = "g2"\\nmemory = 32\\nkernel = "/root/Image"\\nvif = [ "bridge=nobridge" ]')
        ends(host, 'proa create /tmp/bad.cfg', FAILED, 'nobridge')
        ends(host, 'proa create -n /tmp/g1.cfg', OK, r'warning: /tmp/g1.cfg:\d: unknown key `frobnicate`')
        ends(host, 'proa list', OK, r'g1[^\n]*\n$')

        # Destroyed: at once, name and memory free.
        host.sh('proa destroy g1')
        expect_eq((guests(host), huge_free(host)), ({}, free), 'nothing is left')
        host.sh('proa create -p /tmp/g1.cfg')
        expect_eq(state(host), 'paused', 'created paused')
        host.sh('proa unpause g1 && proa destroy g1')


@case(hosts=1)
def the_power_button_shuts_down_and_reboots():
    with one_host() as lab:
        host = lab.a
        lab.create(host)
        booted(lab, host, 1)
        host.sh('proa reboot g1')
        booted(lab, host, 2)
        expect('GUEST-POWER-BUTTON' in lab.console(host), 'it was asked, not reset')
        host.sh('proa reboot --force g1')
        booted(lab, host, 3)
        retry('the guest listens to its button', lambda: host.run('proa shutdown --wait g1')[1] == OK, 30)
        expect_eq(guests(host), {}, 'gone: on_poweroff is destroy')
        expect('the guest powered off' in host.sh('cat /run/proa/log/g1.log'), 'and the log says why')

        # A guest without a driver for the button is not left guessing.
        lab.create(host, kernel='/root/Image', ramdisk='', wait=False)
        ends(host, 'proa shutdown g1', REFUSED, 'listens to its power button')
        host.sh('proa destroy g1')


@case(hosts=1)
def a_guest_that_ends_gets_what_its_config_says():
    with one_host() as lab:
        host = lab.a
        lab.create(host, extra='panic=1', settings='on_poweroff = "restart"\\non_reboot = "preserve"')
        booted(lab, host, 1)
        in_guest(lab, '(sleep 0.5; poweroff -f) >/dev/null 2>&1 &')
        booted(lab, host, 2)
        in_guest(lab, '(sleep 0.5; reboot -f) >/dev/null 2>&1 &')
        retry('preserved', lambda: state(host) == 'stopped', 20)
        expect(' ---s-- ' in host.sh('proa list'), 's for stopped')
        ends(host, 'proa pause g1', REFUSED, 'is stopped')
        host.sh('proa reboot --force g1')
        booted(lab, host, 3)
        # A kernel that panics resets the machine after panic=1: on_reboot again.
        in_guest(lab, 'echo 1 >/proc/sys/kernel/sysrq; (sleep 0.5; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &')
        retry('preserved after a panic', lambda: state(host) == 'stopped', 30)
        expect('Kernel panic' in lab.console(host), 'the panic is on the console')
        host.sh('proa destroy g1')

        lab.create(host, settings='on_reboot = "destroy"\\non_poweroff = "preserve"')
        booted(lab, host, 4)  # the console's log goes on
        retry('the button works', lambda: host.run('proa shutdown --wait g1')[1] == OK, 30)
        expect_eq(state(host), 'stopped', 'preserved after the button')
        host.sh('proa reboot --force g1')
        booted(lab, host, 5)
        retry('asked to reboot', lambda: host.run('proa reboot g1')[1] == OK, 30)
        retry('on_reboot = destroy', lambda: guests(host) == {}, 30)


@case(hosts=1)
def consoles_are_shared_left_and_logged():
    with one_host() as lab:
        host = lab.a
        lab.create(host)
        # Two clients at once; both see what one types. Ctrl-] leaves, and nothing of the guest changes.
        first = host.start("(sleep 1; printf 'echo one$((40+2))\\n'; sleep 4; printf 'echo not-sent\\035') | proa console g1")
        second = host.start("(sleep 3; printf 'echo two$((40+2))\\n\\035'; sleep 1) | proa console g1")
        for out, code in (first.finish(30), second.finish(30)):
            expect_eq(code, OK, 'left with Ctrl-]')
            expect('[g1: detached]' in out and 'one42' in out, f'saw what the first typed: {out!r}')
        expect('two42' in first.result[0], 'the first saw what the second typed')
        retry('the log has both', lambda: re.search('one42.*two42', lab.console(host), re.S), 10)
        expect_eq(state(host), 'running', 'the guest goes on')
        # It ends with its guest.
        watcher = host.start('sleep 100 | proa console g1')
        host.sh('sleep 1; proa destroy g1')
        host.sh('killall sleep')
        expect('the guest has ended' in watcher.finish(20)[0], 'a console says that its guest has ended')

        # Ctrl-C of a create that takes long leaves nothing (its kernel is a pipe that nobody writes).
        free = huge_free(host)
        host.sh("mkfifo /tmp/pipe; printf 'name=\"slow\"\\nkernel=\"/tmp/pipe\"\\n' > /tmp/slow.cfg")
        for command, code in (('proa create', 130), ('proa create -c', CANCELLED)):
            ends(host, f'timeout -s INT 2 {command} /tmp/slow.cfg', code)
            retry('nothing is left of it', lambda: guests(host) == {} and huge_free(host) == free, 10)


@case(hosts=1)
def a_guest_that_ends_at_once_was_started():
    """A bare-metal guest may power off before anybody has had a look at it: nothing it printed is lost, nothing of it stays."""
    with one_host() as lab:
        host = lab.a
        free = huge_free(host)
        put(host, '/tmp/g1.cfg', 'name = "g1"\nkernel = "/root/smp.img"\nmemory = 16\nvcpus = 1\n')
        # proad sleeps from proa-vm's first moment until the guest has ended.
        creating = host.start('proa create /tmp/g1.cfg')
        host.sh('until pidof proa-vm >/dev/null; do :; done; kill -STOP $(pidof proad)')
        retry('it ends', lambda: host.run('readlink /proc/$(pidof proa-vm)/exe')[1] != 0, 30)  # a zombie has none
        host.sh('kill -CONT $(pidof proad)')
        out, code = creating.finish(30)
        expect_eq((code, 'g1: running, ID 1' in out), (OK, True), f'it was started: {out!r}')
        retry('it is gone', lambda: guests(host) == {} and huge_free(host) == free, 10)
        expect('SMP ok cpus=1' in lab.console(host), 'and ran')
        # Its console from the first byte on; left paused, when somebody lets it run. (The fifo: an input that does not end.)
        watching = 'exec 3<>/tmp/in; proa create -c /tmp/g1.cfg <&3'
        host.sh('mkfifo /tmp/in')
        for command, first in ((watching, 'g1: running'), (watching + ' -p', 'g1: paused')):
            watcher = host.start(f"sh -c '{command}'")
            if 'paused' in first:
                retry('paused', lambda: state(host) == 'paused', 10)
                host.sh('proa unpause g1')
            out, code = watcher.finish(30)
            expect_eq(code, OK, out)
            expect(re.search(first + '.*SMP ok cpus=1.*g1: the guest has ended', out, re.S), f'all of its console: {out!r}')
            retry('it is gone', lambda: guests(host) == {} and huge_free(host) == free, 10)


@case(hosts=1)
def the_xen_tutorials_config_boots_from_a_loop_device():
    """Disks: phy: and file:, read-only, discard, flush; and hvc0, xvda and rng as the tutorial's guest expects them."""
    with one_host() as lab:
        host = lab.a
        host.sh('dd if=/dev/urandom of=/tmp/disk bs=1M count=8 && dd if=/dev/urandom of=/tmp/ro bs=1M count=1')
        host.sh('losetup /dev/loop0 /tmp/disk')
        put(host, '/tmp/tutorial.cfg', TUTORIAL)
        ends(host, 'proa create /tmp/tutorial.cfg', OK, r'/dev/xvdX in the kernel.s arguments became /dev/vdX')
        lab.wait_console(host, 'tutorial', BOOTED)
        expect_eq(host.sh('cat /proc/sys/net/ipv6/conf/vif1.0/disable_ipv6').strip(), '1', "the host's own IPv6 on the guest's wire")
        expect('root=/dev/vda' in in_guest(lab, 'cat /proc/cmdline'), 'the root device was translated')

        md5 = lambda out: out.split()[0]
        both = lambda part: expect_eq(md5(in_guest(lab, f'dd if=/dev/vda bs=4k {part} 2>/dev/null | md5sum')), md5(host.sh(f'dd if=/tmp/disk bs=4k {part} 2>/dev/null | md5sum')),
                                      f'host and guest read the same: {part}')
        both('count=2048')
        in_guest(lab, 'dd if=/dev/urandom of=/dev/vda bs=64k seek=3 count=20 conv=fsync')
        host.sh('echo 3 >/proc/sys/vm/drop_caches; blockdev --flushbufs /dev/loop0')
        both('count=2048')
        expect_eq(in_guest(lab, 'cat /sys/block/vda/queue/write_cache').strip(), 'write back', 'a cache that is flushed')
        # Discard: it reads as zeroes (a file behind the loop device), and the pages around it stay.
        in_guest(lab, 'blkdiscard -o 1048576 -l 2097152 /dev/vda')
        zero = 'cmp -n 2097152 /dev/zero'
        in_guest(lab, f'dd if=/dev/vda bs=1M skip=1 count=2 2>/dev/null | {zero} -')
        host.sh(f'blockdev --flushbufs /dev/loop0; dd if=/tmp/disk bs=1M skip=1 count=2 2>/dev/null | {zero} -')
        both('count=256')
        both('skip=768 count=512')
        expect(int(host.sh('du -k /tmp/disk').split()[0]) <= 6 * 1024 + 64, 'the host has its space back')

        # The read-only file.
        expect_eq(in_guest(lab, 'cat /sys/block/vdb/ro').strip(), '1', 'vdb is read-only')
        expect_eq(md5(in_guest(lab, 'md5sum /dev/vdb')), md5(host.sh('md5sum /tmp/ro')), 'its content')
        out, code = host.run('dd if=/dev/zero of=/dev/vdb bs=4k count=1', address='10.77.1.10')
        expect(code != 0, f'a write to it fails: {out}')

        # The rng feeds the guest.
        expect('virtio_rng' in in_guest(lab, 'cat /sys/class/misc/hw_random/rng_current'), 'a hardware rng')
        expect_eq(len(in_guest(lab, 'dd if=/dev/hwrng bs=32 count=1 2>/dev/null | md5sum').split()[0]), 32, 'it gives bytes')


@case(hosts=1)
def guests_outlive_proad_and_nothing_outlives_a_killed_proa_vm():
    with one_host() as lab:
        host, free = lab.a, huge_free(lab.a)
        lab.create(host)
        modes = host.sh('stat -c "%a %n" /run/proa/proad.sock /run/proa/vm/g1.sock /run/proa/vm').split()
        expect_eq(modes[0::2], ['600', '600', '700'], 'sockets are their owner\'s only')
        ends(host, 'proad --plaintext --port 4651', FAILED, r'another proad \(process \d+\)')
        expect_eq(state(host), 'running', 'the first proad goes on')

        # proad dies; the guest doesn't notice, and the next proad knows it.
        since = float(in_guest(lab, 'cut -d" " -f1 /proc/uptime'))
        host.sh('kill -9 $(pidof proad)')
        ends(host, 'proa list', UNREACHABLE, 'is proad running')
        expect(float(in_guest(lab, 'cut -d" " -f1 /proc/uptime')) >= since, 'the guest goes on')
        host.sh('ln -s nothing /run/proa/vm/link.sock; touch /run/proa/vm/stale.sock')
        host.start_proad('--plaintext')
        expect_eq([*guests(host)], ['g1'], 'found again, and only it')
        expect(host.run('ls /run/proa/vm/stale.sock')[1] != 0, 'a stale socket is removed')
        expect('g1' in host.sh('cat /run/proad.log'), 'and it is logged')
        host.sh('proa pause g1 && proa unpause g1')

        # proa-vm hangs: it is listed so, and can be destroyed.
        host.sh('kill -STOP $(pidof proa-vm)')
        expect(' -----d ' in host.sh('proa list'), 'one that does not answer is listed as such')
        host.sh('kill -CONT $(pidof proa-vm)')
        expect_eq(state(host), 'running', 'it answers again')

        # proa-vm is killed (an adopted one here): guest stopped, memory back, name free.
        host.sh('kill -9 $(pidof proa-vm)')
        retry('all is given back', lambda: guests(host) == {} and huge_free(host) == free, 10)
        try:
            lab.guest('true', timeout=2)
            raise AssertionError('the guest still runs')
        except (LabError, OSError):
            pass
        lab.create(host)
        host.sh('kill -9 $(pidof proa-vm)')  # and one that is proad's child
        retry('all is given back', lambda: guests(host) == {} and huge_free(host) == free, 10)
        lab.create(host)
        host.sh('kill -STOP $(pidof proa-vm)')
        host.sh('proa destroy g1', timeout=30)
        expect_eq((guests(host), huge_free(host)), ({}, free), 'one that hangs is destroyed too')


@case()
def a_moved_guest_announces_itself_and_its_button_works():
    import socket, struct, threading
    with Lab(hosts=2) as lab:
        lab.start_daemons(tls=False)
        lab.create(lab.a, settings='on_reboot = "restart"')
        # Ctrl-C of the command: the guest stays.
        out, code = lab.a.run('timeout -s INT 2 proa migrate g1 10.77.0.2 --bandwidth 1')
        expect_eq(code, CANCELLED, f'Ctrl-C cancels: {out}')
        expect_eq((state(lab.a), guests(lab.b)), ('running', {}), 'it stays at the source')
        retry('nothing waits at the destination', lambda: guests(lab.b) == {}, 10)

        seen, listening, over = [], threading.Event(), threading.Event()

        def sniff():
            lab.net.enter()
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.bind(('lan0', 0))
            s.settimeout(0.5)
            listening.set()
            while not over.is_set():
                try:
                    frame = s.recv(2048)
                except TimeoutError:
                    continue
                kind = struct.unpack('!H', frame[12:14])[0]
                if kind == 0x8035:
                    seen.append('rarp')
                if kind == 0x0806 and frame[28:32] == frame[38:42] == socket.inet_aton('10.77.1.10'):
                    seen.append('gratuitous arp')
        watcher = threading.Thread(target=sniff)
        watcher.start()
        listening.wait()
        lab.a.sh('proa migrate g1 10.77.0.2', timeout=120)
        retry('RARP by the host, gratuitous ARP by the guest', lambda: {'rarp', 'gratuitous arp'} <= set(seen), 10)
        over.set()
        watcher.join()
        expect_eq((guests(lab.a), state(lab.b)), ({}, 'running'), 'it moved')
        lab.b.sh('proa reboot g1')
        booted(lab, lab.b, 1)
        expect('GUEST-POWER-BUTTON' in lab.console(lab.b), 'the button works where it moved to')
