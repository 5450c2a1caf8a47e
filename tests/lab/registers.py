"""Clients outside both hosts that use a few registers in Redis at once and note when each operation was asked for and when
its reply came: the history that linearizability.py judges. A connection is opened once, never again."""
import random, time
from .client import Connection, wait_port
from .linearizability import Operation, violations

KINDS, WEIGHTS = ('read', 'write', 'swap'), (5, 4, 2)


class RegisterClient(Connection):
    """One connection, one operation at a time, on a register chosen at random. Every value written is unique."""

    def __init__(self, number, registers, seed, *rest):
        super().__init__(*rest)
        self.number, self.registers, self.random, self.history = number, registers, random.Random(f'{seed}:{number}'), []

    def step(self):
        kind = self.random.choices(KINDS, WEIGHTS)[0]
        o = Operation(self.number, self.random.choice(self.registers), kind,
                      None if kind == 'read' else f'{self.number}.{len(self.history)}', invoked=time.monotonic())
        self.history.append(o)  # before it is sent: without a reply it stays one that may have happened
        words = {'read': ('GET',), 'write': ('SET',), 'swap': ('GETSET',)}[kind]
        reply = self.ask(*words, o.register, *([] if kind == 'read' else [o.argument]))
        if kind == 'write':
            assert reply == b'OK', f'SET {o.register}: {reply!r}'
        else:
            o.result = None if reply is None else reply.decode()
        o.returned = time.monotonic()


class Registers:
    def __init__(self, net, address, clients=4, registers=2, pause=0.03, port=6379, timeout=60, seed=0):
        wait_port(net, address, port)
        names = [f'register{i}' for i in range(registers)]
        self.clients = [RegisterClient(i, names, seed, net, address, port, pause, timeout) for i in range(clients)]
        for c in self.clients:
            c.start()

    def errors(self):
        return [f'register client {c.number} {c.error}' for c in self.clients if c.error]

    def history(self):
        return [o for c in self.clients for o in list(c.history)]

    def stop(self):
        """Stops; the list of what went wrong, the order of events included."""
        for c in self.clients:
            c.stopping = True
        for c in self.clients:
            c.join(90)
            if c.is_alive():
                c.error = c.error or 'has no reply any more'
            c.sock.close()
        return [*self.errors(), *violations(self.history())]
