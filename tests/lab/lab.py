"""Two (or one) emulated hosts in a network namespace of their own, and the way in: commands, faults, clean-up.

    with Lab(hosts=2) as lab:
        lab.a.sh('proa list')
        lab.cut('mig', lab.b)

Links: mig0 10.77.0.0/24 between the control domains; lan0 10.77.1.0/24 for guests and outside clients (10.77.1.100)."""
import atexit, contextlib, json, os, re, socket, subprocess, threading, time
from . import images
from .host import DISKS, LOGS, Host, LabError  # noqa: F401 - what a lab is made of, for those who use one


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

    def flags(self, name):
        out = subprocess.run(['ip', '-n', self.name, '-j', 'link', 'show', name], check=True, capture_output=True, text=True).stdout
        return json.loads(out)[0]['flags']

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


class Lab:
    count = 0

    def __init__(self, hosts=2, cpus=2, memory=1024, cpu='neoverse-n1', huge=160, disk=False, limit=600, name=None, threads='single', host_type=None,
                 interactive=False, local_disks=False):
        """disk: /dev/vda with Redis, one for all hosts. local_disks: and /dev/vdb, the same at first, but a copy of its own on
        each host, and /dev/vdc for the host's state (/var/lib/proa); both survive the host's death, see Host.restart()."""
        Lab.count += 1
        self.name = name or f'proa-{os.getpid()}-{Lab.count}'
        self.interactive, self.limit, self.threads = interactive, limit, threads  # one TCG thread a host: two hosts fill two cores without spinning
        self.options = dict(cpus=cpus, memory=memory, cpu=cpu, huge=huge, local_disks=local_disks, disk=images.guest_disk() if disk or local_disks else None)
        LOGS.mkdir(parents=True, exist_ok=True)
        images.host_ramdisk()
        self.hosts, self.keys, self.proad_options, self.etcd = [], {}, '', None
        self.services = contextlib.ExitStack()
        self.net = Namespace(self.name)
        atexit.register(self.close)
        try:
            for n in range(1, hosts + 1):
                self.hosts.append((host_type or Host)(self, n, **self.options))
            for h in self.hosts:
                h.wait_up()
        except BaseException:
            self.close()
            raise

    a = property(lambda self: self.hosts[0])
    b = property(lambda self: self.hosts[1])

    def other(self, host):
        """Of a pair."""
        return self.b if host is self.a else self.a

    def start_daemons(self, tls=True, witness=None):
        """witness: None (proad isn't told of one), 'none' (a pair that may split), 'etcd' (one of this lab's own), or a URL."""
        if tls:
            self.make_keys()
        if witness == 'etcd':
            from .etcd import Etcd
            self.etcd = self.services.enter_context(Etcd(self))
            witness = self.etcd.url
        options = ['' if tls else '--plaintext', f'--witness {witness}' if witness else '', '--unsafe' if witness == 'none' else '']
        self.proad_options = ' '.join(o for o in options if o)
        for h in self.hosts:
            h.start_daemon()

    def make_keys(self):
        addresses = [h.address for h in self.hosts]
        self.a.sh(f'cd /tmp && rm -rf keys && proa keys init {" ".join(addresses)} --dir keys')
        self.keys = {a: {f: self.a.sh(f'cat /tmp/keys/{a}/{f}') for f in ('ca.pem', 'host.pem', 'host.key')} for a in addresses}

    def create(self, host, name='g1', vcpus=1, memory=128, address='10.77.1.10', extra='', kernel='/root/Image',
               ramdisk='/root/guest.cpio', disk=False, wait=True, settings=''):
        """disk: True, the one that all hosts share; 'local', the host's own."""
        ramdisk_line = f'ramdisk = "{ramdisk}"' if ramdisk else ''
        config = '\\n'.join([f'name = "{name}"', f'kernel = "{kernel}"', ramdisk_line, f'memory = {memory}', f'vcpus = {vcpus}',
                             f'extra = "console=hvc0 kpti=0 quiet ip={address} {extra}"', "vif = [ \"bridge=br0\" ]",
                             f'disk = [ "phy:/dev/{"vdb" if disk == "local" else "vda"},xvda,w" ]' if disk else '', settings])
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

    def part(self, whole=False):
        """Cuts the control domains from each other, and from nobody else (`cut` takes one off the network)."""
        for h in self.hosts:
            self.net.inside('link', 'set', h.taps['mig'], 'type', 'bridge_slave', 'isolated', 'off' if whole else 'on')

    def close(self):
        for h in self.hosts:
            h.kill()
        self.hosts = []
        for disk in DISKS.glob(f'{self.name}-*'):
            disk.unlink(missing_ok=True)
        self.services.close()
        self.net.close()
        atexit.unregister(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
