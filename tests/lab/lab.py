"""Two (or one) emulated hosts in a network namespace of their own, and the way in: commands, faults, clean-up.

    with Lab(hosts=2) as lab:
        lab.a.sh('proa list')
        lab.cut('mig', lab.b)

Links: mig0 10.77.0.0/24 between the control domains; lan0 10.77.1.0/24 for guests and outside clients (10.77.1.100)."""
import atexit, os, re, signal, socket, subprocess, threading, time
from pathlib import Path
from . import images

LOGS = images.ROOT / 'build' / 'logs'


class LabError(Exception):
    pass


class Namespace:
    """A network namespace with the two bridges; sockets can be opened inside it."""

    def __init__(self, name):
        self.name = name
        self.ip('netns', 'add', name)
        for bridge, address in (('mig0', '10.77.0.254/24'), ('lan0', '10.77.1.100/24')):
            self.inside('link', 'add', bridge, 'type', 'bridge')
            self.inside('link', 'set', bridge, 'up')
            self.inside('addr', 'add', address, 'dev', bridge)
        self.inside('link', 'set', 'lo', 'up')

    @staticmethod
    def ip(*args):
        subprocess.run(['ip', *args], check=True, capture_output=True)

    def inside(self, *args):
        self.ip('-n', self.name, *args)

    def tap(self, name, bridge):
        self.inside('tuntap', 'add', name, 'mode', 'tap')
        self.inside('link', 'set', name, 'master', bridge)
        self.inside('link', 'set', name, 'up')

    def enter(self):
        """Moves the calling thread into the namespace (setns(2))."""
        import ctypes
        fd = os.open(f'/run/netns/{self.name}', os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:
            raise LabError('setns failed; run as root')
        os.close(fd)

    def connect(self, address, port, timeout=5):
        """A TCP connection made from inside the namespace, usable from any thread."""
        result = []

        def work():
            try:
                self.enter()
                result.append(socket.create_connection((address, port), timeout))
            except OSError as e:
                result.append(e)
        t = threading.Thread(target=work)
        t.start()
        t.join()
        if isinstance(result[0], Exception):
            raise result[0]
        result[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return result[0]

    def close(self):
        subprocess.run(['ip', 'netns', 'del', self.name], capture_output=True)


class Host:
    def __init__(self, lab, number, cpus, memory, cpu, huge, disk):
        self.lab, self.number, self.address = lab, number, f'10.77.0.{number}'
        self.log = LOGS / f'{lab.name}-host{number}.log'
        self.taps = {'mig': f'm{number}', 'lan': f'l{number}'}
        for kind, tap in self.taps.items():
            lab.net.tap(tap, f'{kind}0')
        args = f'console=ttyAMA0 kpti=0 cma=0 quiet host={number} huge={huge}'
        mac = lambda k: f'52:54:00:77:0{k}:0{number}'
        command = ['ip', 'netns', 'exec', lab.net.name, 'timeout', str(lab.limit), 'qemu-system-aarch64',
                   '-M', 'virt,virtualization=on,gic-version=3,its=off', '-cpu', cpu, '-smp', str(cpus), '-m', str(memory),
                   '-accel', f'tcg,thread={lab.threads}', '-nodefaults', '-display', 'none', *self.serial(), '-no-reboot', '-monitor', 'none',
                   *self.software(args)]
        for i, (kind, tap) in enumerate(self.taps.items()):
            command += ['-netdev', f'tap,id=n{i},ifname={tap},script=no,downscript=no',
                        '-device', f'virtio-net-pci,netdev=n{i},mac={mac(i)},romfile=,addr={i + 1}']
        if disk:
            command += ['-drive', f'file={disk},format=raw,if=none,id=d0,cache=writethrough,file.locking=off',
                        '-device', 'virtio-blk-pci,drive=d0,addr=4']
        self.started = time.time()
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                        stdout=open(LOGS / f'{lab.name}-qemu{number}.log', 'wb'), stderr=subprocess.STDOUT,
                                        start_new_session=True)

    def serial(self):
        if not self.lab.interactive:
            return ['-serial', f'file:{self.log}']
        self.socket = self.log.with_suffix('.sock')
        return ['-chardev', f'socket,id=s0,path={self.socket},server=on,wait=off,logfile={self.log}', '-serial', 'chardev:s0']

    def software(self, args):
        """QEMU's options for what the host runs: proa-hv, and the control domain's kernel and ramdisk as its modules."""
        image, _ = images.kernel()
        return ['-kernel', images.BUILD / 'hypervisor' / 'proa-hv.img',
                '-device', f'guest-loader,addr=0x50000000,kernel={image},bootargs={args}',
                '-device', f'guest-loader,addr=0x54000000,initrd={images.host_ramdisk()}']

    def wait_up(self, timeout=60):
        self.wait_log(r'HOST-USERLAND', timeout)
        self.boot_seconds = time.time() - self.started
        end = time.time() + 20
        while True:
            try:
                return self.sh('true')
            except OSError:
                if time.time() > end:
                    raise LabError(f'host {self.number}: no agent on {self.address}')
                time.sleep(0.1)

    def wait_log(self, pattern, timeout=60):
        end = time.time() + timeout
        while time.time() < end:
            text = self.log.read_text(errors='replace') if self.log.exists() else ''
            if re.search(pattern, text):
                return text
            if self.process.poll() is not None:
                raise LabError(f'host {self.number}: QEMU ended ({self.process.returncode}):\n{text[-1500:]}')
            time.sleep(0.05)
        raise LabError(f'host {self.number}: no {pattern!r} on its console in {timeout} s:\n{text[-1500:]}')

    def sh(self, command, timeout=60, check=True, address=None):
        """Runs a command in the control domain; its output. LabError if it fails and `check`."""
        out, code = self.run(command, timeout, address)
        if check and code != 0:
            raise LabError(f'host {self.number}: {command!r} ended with {code}: {out.strip()[-800:]}')
        return out

    def run(self, command, timeout=60, address=None, on_line=None):
        """(output, exit code); on_line is called with each line as it comes."""
        s = self.lab.net.connect(address or self.address, 2323)
        with s:
            s.settimeout(timeout)
            s.sendall(command.encode() + b'\n')
            data, shown = b'', 0
            while chunk := s.recv(65536):
                data += chunk
                while on_line and (end := data.find(b'\n', shown)) >= 0:
                    on_line(data[shown:end].decode(errors='replace'))
                    shown = end + 1
        out, _, code = data.rpartition(b'\0')
        if not code:
            raise LabError(f'host {self.number}: {command!r} was cut off')
        return out.decode(errors='replace'), int(code)

    def start(self, command):
        """Runs a command in the background of a thread; join() gives (output, code)."""
        return Background(self, command)

    def start_proad(self, options=''):
        # TCG runs OpenSSL's plain C many times faster than its vector instructions (ChaCha20: 475 MB/s against 57).
        self.sh(f'mkdir -p /run/proa /etc/proa; export LD_LIBRARY_PATH=/lib OPENSSL_armcap=0; setsid proad {options} >/run/proad.log 2>&1 </dev/null &')
        self.wait_sh('proa list >/dev/null 2>&1', 15)

    def wait_sh(self, command, timeout=30):
        end = time.time() + timeout
        while self.run(command)[1] != 0:
            if time.time() > end:
                raise LabError(f'host {self.number}: {command!r} did not succeed in {timeout} s; proad: {self.run("cat /run/proad.log")[0][-800:]}')
            time.sleep(0.1)

    def kill(self):
        """SIGKILL to QEMU: the host is gone at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self, on=True):
        os.killpg(self.process.pid, signal.SIGSTOP if on else signal.SIGCONT)


class Background(threading.Thread):
    def __init__(self, host, command):
        super().__init__(daemon=True)
        self.host, self.command, self.result, self.error = host, command, None, None
        self.start()

    def run(self):
        try:
            self.result = self.host.run(self.command, 300)
        except (OSError, LabError) as e:
            self.error = e

    def finish(self, timeout=120):
        self.join(timeout)
        if self.result is None:
            raise LabError(f'{self.command!r} did not finish: {self.error}')
        return self.result


class Lab:
    count = 0

    def __init__(self, hosts=2, cpus=2, memory=1024, cpu='neoverse-n1', huge=160, disk=False, limit=600, name=None, threads='single', host_type=None, interactive=False):
        Lab.count += 1
        self.name = name or f'proa-{os.getpid()}-{Lab.count}'
        self.interactive, self.limit, self.threads = interactive, limit, threads  # one TCG thread a host: two hosts fill two cores without spinning
        self.options = dict(cpus=cpus, memory=memory, cpu=cpu, huge=huge, disk=images.guest_disk() if disk else None)
        LOGS.mkdir(parents=True, exist_ok=True)
        images.host_ramdisk()
        self.hosts = []
        self.net = Namespace(self.name)
        atexit.register(self.close)
        try:
            self.hosts = [(host_type or Host)(self, n, **self.options) for n in range(1, hosts + 1)]
            for h in self.hosts:
                h.wait_up()
        except BaseException:
            self.close()
            raise

    a = property(lambda self: self.hosts[0])
    b = property(lambda self: self.hosts[1])

    def start_daemons(self, tls=True):
        if tls:
            addresses = ' '.join(h.address for h in self.hosts)
            self.a.sh(f'cd /tmp && rm -rf keys && proa keys init {addresses} --dir keys')
            for h in self.hosts:
                h.sh('mkdir -p /etc/proa/keys')
                for f in ('ca.pem', 'host.pem', 'host.key'):
                    text = self.a.sh(f'cat /tmp/keys/{h.address}/{f}')
                    h.sh("printf '%b' '" + text.replace('\n', '\\n') + f"' > /etc/proa/keys/{f}; chmod 600 /etc/proa/keys/{f}")
        for h in self.hosts:
            h.start_proad('' if tls else '--plaintext')

    def create(self, host, name='g1', vcpus=1, memory=128, address='10.77.1.10', extra='', kernel='/root/Image',
               ramdisk='/root/guest.cpio', disk=False, wait=True, settings=''):
        ramdisk_line = f'ramdisk = "{ramdisk}"' if ramdisk else ''
        config = '\\n'.join([f'name = "{name}"', f'kernel = "{kernel}"', ramdisk_line, f'memory = {memory}', f'vcpus = {vcpus}',
                             f'extra = "console=hvc0 kpti=0 quiet ip={address} {extra}"', "vif = [ \"bridge=br0\" ]",
                             'disk = [ "phy:/dev/vda,xvda,w" ]' if disk else '', settings])
        host.sh(f"printf '{config}\\n' > /tmp/{name}.cfg && proa create /tmp/{name}.cfg")
        if wait:
            self.wait_console(host, name, 'GUEST-USERLAND|/ #')

    def console(self, host, name='g1'):
        return host.run(f'cat /run/proa/log/{name}.console')[0]

    def wait_console(self, host, name, pattern, timeout=60):
        end = time.time() + timeout
        while time.time() < end:
            text = self.console(host, name)
            if re.search(pattern, text):
                return text
            time.sleep(0.2)
        raise LabError(f'guest {name}: no {pattern!r} on its console in {timeout} s:\n{text[-1000:]}\n'
                       f'{host.run(f"cat /run/proa/log/{name}.log; proa dmesg | tail -20")[0]}')

    def guest(self, command, address='10.77.1.10', timeout=30):
        """Runs a command inside a lab guest."""
        return self.a.sh(command, timeout, address=address)

    def cut(self, kind, host, whole=False):
        self.net.inside('link', 'set', host.taps[kind], 'up' if whole else 'down')

    def close(self):
        for h in self.hosts:
            h.kill()
        self.hosts = []
        self.net.close()
        atexit.unregister(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
