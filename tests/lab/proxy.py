"""A proxy between two hosts that reads proa's frames (plaintext migrations only) and can cut the connection exactly when a
chosen record passes, before or after it is delivered. The source is told to migrate to the proxy's address."""
import json, socket, struct, threading

HEADER = struct.Struct('<IBBHIIQQ')  # transport/frame.hpp
MANDATORY = 0x8000
RECORDS = {'Hello': 1, 'Welcome': 2, 'Pages': 3, 'RoundEnd': 4, 'RoundAck': 5, 'Machine': 6, 'Device': 7, 'StateComplete': 8,
           'Ready': 9, 'Commit': 10, 'Started': 11, 'Abort': 12, 'PeerRequest': 32, 'PeerAnswer': 33}


class Proxy:
    ADDRESS = '10.77.0.254'  # mig0's own

    def __init__(self, lab, target, port=4650):
        self.lab, self.target, self.open, self.lock = lab, target, [], threading.Lock()
        self.rule, self.fired, self.dead, self.seen, self.ports = None, threading.Event(), False, [], set()
        self.listen(port)

    def cut_at(self, record, deliver=False, stay_dead=False):
        """Cut every connection when `record` passes; deliver: after it went on, else before. stay_dead: refuse new ones."""
        self.rule = (RECORDS[record], deliver, stay_dead)
        self.fired.clear()

    def heal(self):
        self.rule, self.dead = None, False

    def listen(self, port):
        if port in self.ports:
            return
        self.ports.add(port)
        ready = threading.Event()

        def work():
            self.lab.net.enter()
            s = socket.create_server((self.ADDRESS, port))
            ready.set()
            while True:
                c, _ = s.accept()
                if self.dead:
                    c.close()
                    continue
                try:
                    t = socket.create_connection((self.target.address, port), 10)
                except OSError:
                    c.close()
                    continue
                for x in (c, t):
                    x.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    x.settimeout(None)
                with self.lock:
                    self.open += [c, t]
                for a, b in ((c, t), (t, c)):
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()
        threading.Thread(target=work, daemon=True).start()
        ready.wait(10)

    @staticmethod
    def exactly(s, n):
        data = b''
        while len(data) < n:
            chunk = s.recv(n - len(data))
            if not chunk:
                raise OSError('closed')
            data += chunk
        return data

    def pump(self, a, b):
        try:
            while True:
                head = self.exactly(a, HEADER.size)
                kind, length = HEADER.unpack(head)[3] & ~MANDATORY, HEADER.unpack(head)[4]
                payload = self.exactly(a, length)
                if kind == RECORDS['PeerAnswer']:  # the data port is chosen there: be ready for it
                    answer = json.loads(payload)
                    if 'port' in answer:
                        self.listen(answer['port'])
                if kind != RECORDS['Pages']:
                    self.seen.append(kind)
                rule = self.rule
                if rule and kind == rule[0]:
                    if rule[1]:
                        b.sendall(head + payload)
                        threading.Event().wait(0.3)  # let it be acted on, and its answer be swallowed by the cut
                    self.rule, self.dead = None, rule[2]
                    self.cut()
                    self.fired.set()
                    return
                b.sendall(head + payload)
        except OSError:
            for x in (a, b):
                x.close()

    def cut(self):
        with self.lock:
            for s in self.open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()
            self.open = []
