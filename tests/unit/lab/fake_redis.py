"""A register store that speaks enough of Redis's protocol for the lab's clients, and can misbehave on purpose."""
import socket, threading


class FakeRedis:
    """`lie(words, value)` may change what a GET answers; `hang_up(words)` makes it close the connection instead of answering."""

    def __init__(self, lie=None, hang_up=None):
        self.lie, self.hang_up, self.values, self.lock = lie, hang_up, {}, threading.Lock()
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def connect(self, address, port, timeout=5):
        """As a lab's namespace does it."""
        return socket.create_connection((address, port), timeout)

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        f = s.makefile('rwb')
        with s, f:
            while line := f.readline():
                words = []
                for _ in range(int(line[1:])):
                    words.append(f.read(int(f.readline()[1:]) + 2)[:-2])
                if self.hang_up and self.hang_up(words):
                    return
                f.write(self.answer(words))
                f.flush()

    def answer(self, words):
        bulk = lambda v: b'$-1\r\n' if v is None else b'$%d\r\n%s\r\n' % (len(v), v)
        with self.lock:
            old = self.values.get(words[1]) if len(words) > 1 else None
            match words[0]:
                case b'PING':
                    return b'+PONG\r\n'
                case b'GET':
                    return bulk(self.lie(words, old) if self.lie else old)
                case b'SET':
                    self.values[words[1]] = words[2]
                    return b'+OK\r\n'
                case b'GETSET':
                    self.values[words[1]] = words[2]
                    return bulk(old)
                case b'INCR':
                    self.values[words[1]] = b'%d' % (int(old or 0) + 1)
                    return b':%s\r\n' % self.values[words[1]]
        return b'-ERR\r\n'

    def close(self):
        self.listener.close()
