"""The peer: two emulated hosts with Linux/KVM and Debian's arm64 QEMU, in the same kind of machine, on the same network,
with the same guest kernel, ramdisk and load as proa's."""
import json, time
from tests.lab import images
from tests.lab.lab import Host, Lab, LabError


def host_ramdisk():
    def add_qemu(tree):
        trees = images.packages(*images.closure('qemu-system-arm'))
        binary = next(p for t in trees for p in [t / 'usr/bin/qemu-system-aarch64'] if p.exists())
        images.libraries([binary], tree / 'lib', trees)
        images.strip_to(binary, tree / 'bin' / 'qemu-system-aarch64')
    return images.host_ramdisk('kvm-host', add_qemu)


class KvmHost(Host):
    def software(self, args):
        image, _ = images.kernel()
        return ['-kernel', image, '-initrd', host_ramdisk(), '-append', args]

    def start_guest(self, options, memory, cmdline):
        self.sh('LD_LIBRARY_PATH=/lib setsid qemu-system-aarch64 -M virt,gic-version=host -accel kvm -cpu host '
                f'-m {memory} -smp 1 -nodefaults -display none -kernel /root/Image -initrd /root/guest.cpio -append "{cmdline}" '
                '-netdev tap,id=n0,ifname=vif1,script=no,downscript=no -device virtio-net-device,netdev=n0,mac=52:54:00:12:34:56 '
                '-chardev file,id=c0,path=/run/guest.console -device virtio-serial-device -device virtconsole,chardev=c0 '
                f'-qmp tcp::4444,server=on,wait=off {options} >/run/qemu.log 2>&1 </dev/null &')
        for _ in range(1500):
            try:
                qmp = Qmp(self)
                self.sh('ip link set vif1 master br0 && ip link set vif1 up')  # QEMU has made the tap
                return qmp
            except OSError:
                time.sleep(0.02)
        raise LabError(f'host {self.number}: no QMP: {self.run("cat /run/qemu.log")[0][-800:]}')


class Qmp:
    def __init__(self, host):
        self.sock = host.lab.net.connect(host.address, 4444, 2)
        self.sock.settimeout(30)
        self.file = self.sock.makefile('rw')
        self.events = {}
        self.file.readline()
        self.ask('qmp_capabilities')

    def ask(self, command, **arguments):
        request = {'execute': command, 'arguments': {k.replace('_', '-'): v for k, v in arguments.items()}}
        self.file.write(json.dumps(request) + '\n')
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if 'event' in answer:
                self.events[answer['event']] = answer['timestamp']
            elif 'error' in answer:
                raise LabError(f'{command}: {answer["error"]["desc"]}')
            else:
                return answer['return']


def tls_options(host, endpoint):
    """What start_guest() needs to move over TLS, with the certificates that Lab.make_keys() has made (as `proa keys init` does)."""
    for file, text in host.lab.keys[host.address].items():
        names = {'ca.pem': ['ca-cert.pem'], 'host.pem': [f'{endpoint}-cert.pem'], 'host.key': [f'{endpoint}-key.pem']}[file]
        for name in names:
            host.sh("mkdir -p /run/tls; printf '%b' '" + text.replace('\n', '\\n') + f"' > /run/tls/{name}")
    return f'-object tls-creds-x509,id=tls0,dir=/run/tls,endpoint={endpoint},verify-peer=on'


def use_tls(source, target, address):
    target.ask('migrate-set-parameters', tls_creds='tls0')
    source.ask('migrate-set-parameters', tls_creds='tls0', tls_hostname=address)


def migrate(source, target, address, limit=180):
    """Default settings, as a user gets them; the result QEMU reports."""
    target.ask('migrate-incoming', uri='tcp:0.0.0.0:4446')
    source.ask('migrate', uri=f'tcp:{address}:4446')
    end = time.monotonic() + limit
    while True:
        q = source.ask('query-migrate')
        if q.get('status') == 'completed':
            return {'rounds': q['ram']['dirty-sync-count'], 'wire_mib': q['ram']['transferred'] / 2**20, 'reported_downtime_ms': q['downtime']}
        if q.get('status') in ('failed', 'cancelled') or time.monotonic() > end:
            return None
        time.sleep(0.05)


def lab(memory):
    return Lab(hosts=2, memory=memory, huge=0, host_type=KvmHost)
