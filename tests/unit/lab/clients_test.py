"""The outside clients against a server that keeps its word, and against some that don't."""
import threading, unittest
from tests.lab.client import RedisLoad
from tests.lab.registers import Registers
from .fake_redis import FakeRedis


def until(condition, seconds=60):
    """Polls: nothing here depends on how fast the machine is."""
    for _ in range(seconds * 100):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError('not in time')


class Clients(unittest.TestCase):
    def server(self, **faults):
        server = FakeRedis(**faults)
        self.addCleanup(server.close)
        return server

    def registers(self, server):
        return Registers(server, '127.0.0.1', pause=0, port=server.port)

    def test_the_history_of_a_good_server_is_linearizable(self):
        r = self.registers(self.server())
        until(lambda: len(r.history()) > 400)
        self.assertEqual(r.stop(), [])
        self.assertEqual({o.kind for o in r.history()}, {'read', 'write', 'swap'})
        self.assertTrue(all(o.returned is not None for o in r.history()))

    def test_a_server_that_answers_reads_with_the_first_value_ever_is_found_out(self):
        first = {}
        r = self.registers(self.server(lie=lambda words, value: first.setdefault(words[1], value)))
        until(lambda: len(r.history()) > 400)
        self.assertTrue(any('not linearizable' in w for w in r.stop()))

    def test_an_operation_without_a_reply_stays_open_and_its_connection_is_an_error(self):
        r = self.registers(self.server(hang_up=lambda words: words[0] == b'SET'))
        until(lambda: len(r.errors()) == len(r.clients))
        open_ones = [o for o in r.history() if o.returned is None]
        self.assertEqual([o.kind for o in open_ones], ['write'] * len(r.clients))
        self.assertEqual(len(r.stop()), len(r.clients), 'lost connections, and nothing wrong with the order')

    def test_an_audit_passes_while_every_acknowledged_write_is_there(self):
        server = self.server()
        load = RedisLoad(server, '127.0.0.1', rate=1000, port=server.port)
        until(lambda: load.replies() > 300)
        self.assertEqual(load.audit(), [])
        p50, p99 = load.request_ms(0)
        self.assertLessEqual(p50, p99)
        self.assertEqual(load.stop(), [])

    def test_an_audit_finds_an_acknowledged_write_that_is_gone(self):
        gone = threading.Event()
        server = self.server(lie=lambda words, value: b'older' if gone.is_set() and words[1] == b'c1:7' else value)
        load = RedisLoad(server, '127.0.0.1', rate=1000, port=server.port)
        until(lambda: all(w.sequence > 60 for w in load.writers))
        gone.set()
        self.assertTrue(any('c1:7' in w for w in load.audit()))
        load.stop()


if __name__ == '__main__':
    unittest.main()
