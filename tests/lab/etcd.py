"""A real etcd in a lab's network namespace: the witness of a protected pair.

    with Lab(hosts=2) as lab, Etcd(lab) as etcd:
        lab.a.start_proad(f'--witness {etcd.url}')
        etcd.cut(lab.a)          # that host and etcd don't hear each other any more; everything else goes on
        etcd.heal()
        etcd.holder('g1')        # {'host': ..., 'session': ..., 'term': ..., 'settled': ...} or None

It has an address of its own on mig0, so that it can be cut off from a host while the lab's way into that host stays."""
import atexit, base64, http.client, json, os, shutil, signal, subprocess, tempfile, time
from .lab import LOGS, LabError

DATA = '/dev/shm' if os.path.isdir('/dev/shm') else tempfile.gettempdir()


class Etcd:
    ADDRESS, PORT = '10.77.0.253', 2379

    def __init__(self, lab):
        if shutil.which('etcd') is None:
            raise LabError('no etcd on this machine: apt-get install etcd-server (./run installs what packages.txt names)')
        self.lab, self.process, self.rules = lab, None, []
        self.log = LOGS / f'{lab.name}-etcd.log'
        self.log.unlink(missing_ok=True)
        self.directory = tempfile.mkdtemp(prefix=f'{lab.name}-etcd-', dir=DATA)
        atexit.register(self.close)
        try:
            lab.net.inside('addr', 'add', f'{self.ADDRESS}/24', 'dev', 'mig0')
            # The rule for local addresses comes first by default: behind ours, packets to etcd can be dropped too.
            lab.net.inside('rule', 'add', 'pref', '100', 'lookup', 'local')
            lab.net.inside('rule', 'del', 'pref', '0')
            self.start()
        except BaseException:
            self.close()
            raise

    url = property(lambda self: f'etcd://{self.ADDRESS}:{self.PORT}')

    def start(self):
        """Starts it; after kill() with the data that it had."""
        client, peer = f'http://{self.ADDRESS}:{self.PORT}', 'http://127.0.0.1:2380'
        command = ['ip', 'netns', 'exec', self.lab.net.name, 'timeout', str(self.lab.limit), 'etcd', '--name', 'lab',
                   '--data-dir', f'{self.directory}/data', '--listen-client-urls', client, '--advertise-client-urls', client,
                   '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', f'lab={peer}',
                   '--heartbeat-interval', '50', '--election-timeout', '500', '--logger', 'zap']
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        end = time.time() + 60
        while not self.healthy():
            if self.process.poll() is not None:
                raise LabError(f'etcd ended ({self.process.returncode}):\n{self.log.read_text(errors="replace")[-1500:]}')
            if time.time() > end:
                raise LabError(f'etcd is not healthy after a minute:\n{self.log.read_text(errors="replace")[-1500:]}')
            time.sleep(0.05)

    def request(self, method, path, body=None):
        """(status, text) of a request from inside the namespace."""
        c = http.client.HTTPConnection(self.ADDRESS, self.PORT)
        c.sock = self.lab.net.connect(self.ADDRESS, self.PORT)
        try:
            c.request(method, path, None if body is None else json.dumps(body))
            answer = c.getresponse()
            return answer.status, answer.read().decode()
        finally:
            c.close()

    def healthy(self):
        try:
            return 'true' in self.request('GET', '/health')[1]
        except (OSError, http.client.HTTPException):
            return False

    def holder(self, guest):
        """Who holds a guest's key; None: nobody."""
        key = base64.b64encode(f'/proa/guests/{guest}/holder'.encode()).decode()
        status, text = self.request('POST', '/v3/kv/range', {'key': key})
        if status != 200:
            raise LabError(f'etcd: {text}')
        found = json.loads(text).get('kvs')
        if not found:
            return None
        value = json.loads(base64.b64decode(found[0]['value']))
        return {'term': int(found[0]['create_revision']), 'settled': False, **value}

    def cut(self, host):
        """No packet passes between that host and etcd, in either direction, and nobody is told."""
        for rule in (['from', host.address, 'to', self.ADDRESS], ['from', self.ADDRESS, 'to', host.address]):
            if rule not in self.rules:
                self.lab.net.inside('rule', 'add', 'pref', '10', *rule, 'blackhole')
                self.rules.append(rule)

    def heal(self):
        for rule in self.rules:
            self.lab.net.inside('rule', 'del', 'pref', '10', *rule, 'blackhole')
        self.rules = []

    def freeze(self, on=True):
        os.killpg(self.process.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def kill(self):
        """SIGKILL: gone at once; what it has confirmed is on its disk."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
