"""One emulated host: QEMU with proa-hv, commands in its control domain, power and faults."""
import json, os, re, signal, subprocess, threading, time
from . import images

LOGS = images.ROOT / 'build' / 'logs'
DISKS = images.OUT / 'disks'


class LabError(Exception):
    pass


class Host:
    def __init__(self, lab, number, cpus, memory, cpu, huge, disk, local_disks):
        self.lab, self.number, self.address = lab, number, f'10.77.0.{number}'
        self.taps = {'mig': f'm{number}', 'lan': f'l{number}'}
        for kind, tap in self.taps.items():
            lab.net.tap(tap, f'{kind}0')
        self.options = dict(cpus=cpus, memory=memory, cpu=cpu, huge=huge, disk=disk)
        self.disks = [self.own_disk(*d) for d in (('local', images.guest_disk()), ('state', images.state_disk()))] if local_disks else []
        self.boots = 0
        self.boot()

    def own_disk(self, name, image):
        """This host's own copy of an image; what is written to it survives the host's death, and ends with the lab."""
        DISKS.mkdir(parents=True, exist_ok=True)
        to = DISKS / f'{self.lab.name}-{name}{self.number}.raw'
        images.run('cp', '--sparse=always', image, to)
        return to

    def boot(self):
        self.boots += 1
        again = '' if self.boots == 1 else f'-boot{self.boots}'
        self.log = LOGS / f'{self.lab.name}-host{self.number}{again}.log'
        self.started = time.time()
        self.process = subprocess.Popen([str(c) for c in self.command()], stdin=subprocess.DEVNULL,
                                        stdout=open(LOGS / f'{self.lab.name}-qemu{self.number}{again}.log', 'wb'), stderr=subprocess.STDOUT,
                                        start_new_session=True)

    def command(self):
        o = self.options
        args = f'console=ttyAMA0 kpti=0 cma=0 quiet host={self.number} huge={o["huge"]}'
        command = ['ip', 'netns', 'exec', self.lab.net.name, 'timeout', str(self.lab.limit), 'qemu-system-aarch64',
                   '-M', 'virt,virtualization=on,gic-version=3,its=off', '-cpu', o['cpu'], '-smp', str(o['cpus']), '-m', str(o['memory']),
                   '-accel', f'tcg,thread={self.lab.threads}', '-nodefaults', '-display', 'none', *self.serial(), '-no-reboot', '-monitor', 'none',
                   *self.software(args)]
        for i, (kind, tap) in enumerate(self.taps.items()):
            command += ['-netdev', f'tap,id=n{i},ifname={tap},script=no,downscript=no',
                        '-device', f'virtio-net-pci,netdev=n{i},mac=52:54:00:77:0{i}:0{self.number},romfile=,addr={i + 1}']
        if o['disk']:  # /dev/vda: one for all hosts
            command += ['-drive', f'file={o["disk"]},format=raw,if=none,id=d0,cache=writethrough,file.locking=off',
                        '-device', 'virtio-blk-pci,drive=d0,addr=4']
        for i, disk in enumerate(self.disks, 1):  # /dev/vdb, /dev/vdc. unsafe: this machine stays up, so what QEMU wrote survives its SIGKILL
            command += ['-drive', f'file={disk},format=raw,if=none,id=d{i},cache=unsafe', '-device', f'virtio-blk-pci,drive=d{i},addr={i + 4}']
        return command

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

    def start_daemon(self):
        """Hands this host its keys, as the operator does after an installation, and starts proad as the lab's daemons run."""
        for file, text in self.lab.keys.get(self.address, {}).items():
            self.sh("mkdir -p /etc/proa/keys; printf '%b' '" + text.replace('\n', '\\n') + f"' > /etc/proa/keys/{file}; chmod 600 /etc/proa/keys/{file}")
        self.start_proad(f"{self.lab.proad_options} --name host{self.number}")

    def restart_proad(self):
        """proad ends (SIGTERM) and a new one takes over its guests; their processes go on meanwhile."""
        # A zombie, which nobody collects here, still has a pid but no program.
        self.sh('for p in $(pidof proad); do kill $p; while readlink /proc/$p/exe >/dev/null; do sleep 0.1; done; done', 30)
        self.start_proad(f"{self.lab.proad_options} --name host{self.number}")

    def start_proad(self, options=''):
        # TCG runs OpenSSL's plain C many times faster than its vector instructions (ChaCha20: 475 MB/s against 57).
        self.sh(f'mkdir -p /run/proa /etc/proa; export LD_LIBRARY_PATH=/lib OPENSSL_armcap=0; setsid proad {options} >>/run/proad.log 2>&1 </dev/null &')
        self.wait_sh('proa list >/dev/null 2>&1', 15)

    def guests(self):
        """{name: row} of `proa list --json`."""
        return {g['name']: g for g in json.loads(self.sh('proa list --json'))}

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

    def restart(self):
        """Power on again, after kill() or instead of it: what was in memory is gone, its own disks are as they were."""
        self.kill()
        end = time.time() + 10
        while any('LOWER_UP' in self.lab.net.flags(tap) for tap in self.taps.values()):  # the dead QEMU still holds it
            if time.time() > end:
                raise LabError(f'host {self.number}: a killed QEMU holds its network')
            time.sleep(0.05)
        self.boot()
        self.wait_up()
        self.start_daemon()

    def alive(self):
        return self.process.poll() is None

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
