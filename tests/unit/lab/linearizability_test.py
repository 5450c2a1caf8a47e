"""The checker of tests/lab/linearizability.py: histories known to be good or bad, and random ones against brute force."""
import itertools, random, unittest
from tests.lab.linearizability import Operation, violations


def op(client, kind, value, invoked, returned, old=None, register='r'):
    """write(value), read -> value, swap(value) -> old."""
    return Operation(client, register, kind, None if kind == 'read' else value, value if kind == 'read' else old, invoked, returned)


def by_permutations(history):
    """The definition itself: some order of a subset (operations without a response may be missing) is a register's."""
    done = [o for o in history if o.returned is not None]
    maybe = [o for o in history if o.returned is None]
    for some in itertools.chain.from_iterable(itertools.combinations(maybe, n) for n in range(len(maybe) + 1)):
        for order in itertools.permutations([*done, *some]):
            value = None
            for i, o in enumerate(order):
                if not o.fits(value) or any(later.returned is not None and later.returned < o.invoked for later in order[i + 1:]):
                    break
                value = o.after(value)
            else:
                return True
    return False


def atomic_history(rng, clients, operations):
    """What clients of a correct register may see: each operation takes effect at a moment between call and return."""
    history, value, now = [], None, 0
    busy = {}  # client -> [operation, has it taken effect?]
    while len(history) < operations or busy:
        now += 1
        client = rng.randrange(clients)
        if client not in busy:
            if len(history) < operations:
                kind = rng.choice(('read', 'write', 'swap'))
                busy[client] = [Operation(client, 'r', kind, None if kind == 'read' else f'{client}.{now}', None, now), False]
                history.append(busy[client][0])
        elif not busy[client][1]:
            o = busy[client][0]
            if o.kind != 'write':
                o.result = value
            value, busy[client][1] = o.after(value), True
        else:
            busy.pop(client)[0].returned = now
    return history


class GoodHistories(unittest.TestCase):
    def good(self, *history):
        self.assertEqual(violations(history), [])

    def test_nothing_at_all(self):
        self.good()

    def test_one_after_the_other(self):
        self.good(op(1, 'read', None, 0, 1), op(1, 'write', 'a', 2, 3), op(2, 'read', 'a', 4, 5), op(2, 'swap', 'b', 6, 7, old='a'), op(1, 'read', 'b', 8, 9))

    def test_a_read_beside_a_write_sees_the_old_value_or_the_new_one(self):
        for seen in ('a', 'b'):
            self.good(op(1, 'write', 'a', 0, 1), op(1, 'write', 'b', 2, 9), op(2, 'read', seen, 3, 4))

    def test_writes_that_overlap_come_in_either_order(self):
        for last in ('a', 'b'):
            self.good(op(1, 'write', 'a', 0, 5), op(2, 'write', 'b', 1, 4), op(3, 'read', last, 6, 7))

    def test_a_write_without_a_response_never_happened(self):
        self.good(op(1, 'write', 'a', 0, 1), op(2, 'write', 'b', 2, None), op(1, 'read', 'a', 10, 11))

    def test_a_write_without_a_response_happened_late(self):
        self.good(op(1, 'write', 'a', 0, 1), op(2, 'write', 'b', 2, None), op(1, 'read', 'a', 10, 11), op(1, 'read', 'b', 12, 13))

    def test_a_swap_without_a_response_happened(self):
        self.good(op(1, 'write', 'a', 0, 1), op(2, 'swap', 'b', 2, None), op(3, 'swap', 'c', 3, 9, old='b'))

    def test_a_read_without_a_response_says_nothing(self):
        self.good(op(1, 'write', 'a', 0, 1), op(2, 'read', None, 2, None), op(1, 'read', 'a', 3, 4))

    def test_what_only_a_write_seen_later_explains(self):
        # The read of b must wait for the write of b, which began long before and ends after it.
        self.good(op(1, 'write', 'b', 0, 20), op(2, 'write', 'a', 1, 2), op(3, 'read', 'a', 3, 4), op(3, 'read', 'b', 5, 6))

    def test_registers_have_nothing_to_do_with_each_other(self):
        self.good(op(1, 'write', 'a', 0, 1, register='x'), op(1, 'read', None, 2, 3, register='y'), op(1, 'read', 'a', 4, 5, register='x'))


class BadHistories(unittest.TestCase):
    def bad(self, *history):
        wrong = violations(history)
        self.assertEqual(len(wrong), 1, wrong)
        self.assertIn('register r is not linearizable', wrong[0])

    def test_a_stale_read(self):
        self.bad(op(1, 'write', 'a', 0, 1), op(1, 'write', 'b', 2, 3), op(2, 'read', 'a', 4, 5))

    def test_a_lost_write(self):
        self.bad(op(1, 'write', 'a', 0, 1), op(2, 'read', None, 2, 3))

    def test_a_value_that_nobody_wrote(self):
        self.bad(op(1, 'write', 'a', 0, 1), op(2, 'read', 'x', 2, 3))

    def test_a_read_before_its_write_was_asked_for(self):
        self.bad(op(1, 'read', 'a', 0, 1), op(2, 'write', 'a', 2, 3))

    def test_two_readers_that_see_writes_in_opposite_orders(self):
        self.bad(op(1, 'write', 'a', 0, 9), op(2, 'write', 'b', 0, 9), op(3, 'read', 'a', 1, 2), op(3, 'read', 'b', 3, 4),
                 op(4, 'read', 'b', 1, 2), op(4, 'read', 'a', 3, 4))

    def test_a_value_seen_once_and_then_forgotten(self):
        # What a failover must never do: the write had no response, but somebody has seen it.
        self.bad(op(1, 'write', 'a', 0, 1), op(2, 'write', 'b', 2, None), op(3, 'read', 'b', 3, 4), op(3, 'read', 'a', 5, 6))

    def test_a_swap_that_did_not_see_the_write_before_it(self):
        self.bad(op(1, 'write', 'a', 0, 1), op(2, 'write', 'b', 2, 3), op(1, 'swap', 'c', 4, 5, old='a'))

    def test_two_swaps_that_both_won(self):
        self.bad(op(1, 'write', 'a', 0, 1), op(2, 'swap', 'b', 2, 5, old='a'), op(3, 'swap', 'c', 2, 5, old='a'))

    def test_the_message_names_who_saw_what(self):
        wrong = violations([op(1, 'write', 'a', 0, 1), op(7, 'read', 'z', 2, 3)])
        self.assertIn("client 7 read 'z'", wrong[0])
        self.assertIn("holds 'a'", wrong[0])


class Generated(unittest.TestCase):
    def test_it_agrees_with_brute_force_on_small_random_histories(self):
        rng, verdicts = random.Random(1), {True: 0, False: 0}
        for _ in range(3000):
            history = []
            for client in range(rng.randint(1, 3)):
                now = 0
                for _ in range(rng.randint(1, 2)):
                    invoked = now + rng.randint(0, 3)
                    now = invoked + rng.randint(0, 4)
                    kind = rng.choice(('read', 'write', 'swap'))
                    history.append(Operation(client, 'r', kind, None if kind == 'read' else rng.choice('abc'),
                                             None if kind == 'write' else rng.choice((None, 'a', 'b', 'c')), invoked, now))
                if rng.random() < 0.3:
                    history[-1].returned = None
            expected = by_permutations(history)
            verdicts[expected] += 1
            self.assertEqual(violations(history) == [], expected, '\n'.join(map(str, history)))
        self.assertGreater(min(verdicts.values()), 300, f'both verdicts are exercised: {verdicts}')

    def test_long_histories_of_a_correct_register_pass(self):
        for seed in range(5):
            self.assertEqual(violations(atomic_history(random.Random(seed), 6, 3000)), [])

    def test_a_long_history_whose_last_write_is_lost_fails(self):
        history = atomic_history(random.Random(3), 6, 3000)
        end = max(o.returned for o in history)
        history += [op(9, 'write', 'lost', end + 1, end + 2), op(9, 'read', history[-1].argument, end + 3, end + 4)]
        self.assertEqual(len(violations(history)), 1)

    def test_a_search_without_end_is_given_up_and_says_so(self):
        history = [op(i, 'write', f'v{i}', 0, 100) for i in range(12)] + [op(99, 'read', 'nobody', 0, 100)]
        self.assertIn('no order found among 50 states', violations(history, limit=50)[0])


if __name__ == '__main__':
    unittest.main()
