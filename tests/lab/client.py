"""Clients outside both hosts: Redis connections under a steady load that check every reply, and a probe of the longest gap.
A connection is opened once: one that breaks is an error, never reconnected."""
import socket, statistics, threading, time


class Reader:
    """Replies of the Redis protocol (RESP), as far as the load needs it."""

    def __init__(self, sock):
        self.sock, self.data = sock, b''

    def line(self):
        while b'\r\n' not in self.data:
            self.more()
        line, self.data = self.data.split(b'\r\n', 1)
        return line

    def more(self):
        chunk = self.sock.recv(65536)
        if not chunk:
            raise ConnectionError('the connection was closed')
        self.data += chunk

    def reply(self):
        line = self.line()
        if line[:1] in (b'+', b':'):
            return line[1:]
        if line[:1] == b'$':
            size = int(line[1:])
            if size < 0:
                return None
            while len(self.data) < size + 2:
                self.more()
            value, self.data = self.data[:size], self.data[size + 2:]
            return value
        raise ConnectionError(f'unexpected reply {line!r}')


def command(*words):
    parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b'*%d\r\n' % len(parts) + b''.join(b'$%d\r\n%s\r\n' % (len(p), p) for p in parts)


class Connection(threading.Thread):
    """One connection: a step, a pause, until told to stop. Notes the gaps between replies."""

    def __init__(self, net, address, port, pause, timeout):
        super().__init__(daemon=True)
        self.sock = net.connect(address, port)
        self.sock.settimeout(timeout)
        self.reader, self.pause = Reader(self.sock), pause
        self.replies, self.error, self.gaps, self.last, self.stopping = 0, None, [], time.monotonic(), False
        self.times = []  # (when the reply came, seconds since the request)

    def ask(self, *words):
        asked = time.monotonic()
        self.sock.sendall(command(*words))
        value = self.reader.reply()
        now = time.monotonic()
        self.times.append((now, now - asked))
        if now - self.last > 0.02:
            self.gaps.append((self.last, now - self.last))
        self.last = now
        self.replies += 1
        return value

    def run(self):
        try:
            while not self.stopping:
                self.step()
                time.sleep(self.pause)
        except (OSError, AssertionError) as e:
            self.error = f'after {self.replies} replies: {type(e).__name__} {e}'

    def step(self):
        assert self.ask('PING') == b'PONG', 'PING was not answered by PONG'


class Writer(Connection):
    """Writes a sequence under keys of its own and reads each write back; counts with INCR what it was acknowledged."""

    def __init__(self, number, *rest):
        super().__init__(*rest)
        self.number, self.sequence, self.written = number, 0, {}
        self.wanted = threading.Event()  # an audit is

    def step(self):
        if self.wanted.is_set():
            self.verify()
            self.wanted.clear()
        self.sequence += 1
        key = f'c{self.number}:{self.sequence % 50}'
        value = f'{self.sequence}:' + 'v' * 100
        assert self.ask('SET', key, value) == b'OK', f'SET {key} was not acknowledged'
        self.written[key] = value
        got = self.ask('GET', key)
        assert got == value.encode(), f'GET {key}: {got!r} instead of sequence {self.sequence}'
        count = self.ask('INCR', f'n{self.number}')
        assert count == str(self.sequence).encode(), f'INCR: {count!r} instead of {self.sequence}'

    def verify(self):
        """Every acknowledged write is there."""
        for key, value in self.written.items():
            got = self.ask('GET', key)
            assert got == value.encode(), f'{key} holds {got!r}'


class RedisLoad:
    def __init__(self, net, address, writers=3, rate=10, port=6379, timeout=60):
        wait_port(net, address, port)
        self.probe = Connection(net, address, port, 0.005, timeout)
        self.writers = [Writer(i, net, address, port, 1 / rate, timeout) for i in range(writers)]
        self.all = [self.probe, *self.writers]
        for c in self.all:
            c.start()

    def errors(self):
        return [c.error for c in self.all if c.error]

    def replies(self):
        return sum(c.replies for c in self.all)

    def longest_gap_ms(self, since):
        """The longest time without a reply on the probe's connection from `since` (time.monotonic()) on."""
        now = time.monotonic()
        gaps = [g for at, g in list(self.probe.gaps) if at + g >= since]
        return 1e3 * max([*gaps, now - self.probe.last])

    def request_ms(self, since, until=None):
        """(p50, p99) of what the probe's requests took that were answered in this time."""
        took = [t for at, t in list(self.probe.times) if since <= at and (until is None or at <= until)]
        if len(took) < 2:
            raise ConnectionError(f'{len(took)} replies in that time')
        cuts = statistics.quantiles(took, n=100, method='inclusive')
        return 1e3 * cuts[49], 1e3 * cuts[98]

    def audit(self, seconds=90):
        """While the load goes on: every writer reads back what it was acknowledged. The list of what went wrong."""
        for w in self.writers:
            w.wanted.set()
        end = time.monotonic() + seconds
        while any(w.wanted.is_set() and not w.error for w in self.writers) and time.monotonic() < end:
            time.sleep(0.05)
        return self.errors() or [f'writer {w.number} could not read its writes back in {seconds} s' for w in self.writers if w.wanted.is_set()]

    def stop(self):
        """Stops and verifies; the list of what went wrong."""
        for c in self.all:
            c.stopping = True
        for c in self.all:
            c.join(90)
            if c.is_alive():
                c.error = c.error or 'no reply any more'
        for w in self.writers:
            if not w.error:
                try:
                    w.verify()
                except (OSError, AssertionError) as e:
                    w.error = f'{e}'
        for c in self.all:
            c.sock.close()
        return self.errors()


def wait_port(net, address, port, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            net.connect(address, port, 2).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


class Echo:
    """A TCP connection to a guest's echo service, kept open across whatever happens."""

    def __init__(self, net, address, port=7):
        wait_port(net, address, port)
        self.sock, self.count = net.connect(address, port), 0
        self.sock.settimeout(60)

    def check(self):
        self.count += 1
        text = f'echo {self.count} '.encode() + b'x' * 200 + b'\n'
        self.sock.sendall(text)
        got = b''
        while len(got) < len(text):
            chunk = self.sock.recv(4096)
            if not chunk:
                raise ConnectionError('the guest closed the echo connection')
            got += chunk
        if got != text:
            raise ConnectionError(f'echo {self.count} came back wrong')
        return True
