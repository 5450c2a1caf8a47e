"""Is a history of reads, writes and swaps one that a single register could have shown? The search of Wing and Gong, with
Lowe's memory of states already tried: one operation after the other is given its place in a total order that respects real
time (what ended before another began stays before it), until all have one or no place is left.

An operation without a response may have happened at any moment after its invocation, or never."""
from dataclasses import dataclass


@dataclass
class Operation:
    client: int
    register: str
    kind: str  # 'read', 'write', 'swap' (writes `argument`, returns what was there before)
    argument: object = None
    result: object = None  # of a read or a swap
    invoked: float = 0.0
    returned: float | None = None  # None: no response came

    def fits(self, value):
        """Could it have had this result when the register held `value`?"""
        return self.kind == 'write' or self.returned is None or self.result == value

    def after(self, value):
        return value if self.kind == 'read' else self.argument

    def __str__(self):
        what = {'read': f'read {self.result!r}', 'write': f'wrote {self.argument!r}', 'swap': f'swapped {self.result!r} for {self.argument!r}'}
        end = 'no response' if self.returned is None else f'{self.returned:.4f}'
        return f'client {self.client} {what[self.kind]} [{self.invoked:.4f} .. {end}]'


class Undecided(Exception):
    """The search was given up: neither an order nor the proof that there is none was found within the limit."""


class Search:
    """States are (first, placed, maybes, value): completed operations before `first` have their place, and those whose bit
    is set in `placed` from there on; `maybes` is the same for operations without a response."""

    def __init__(self, operations, initial):
        by_invocation = sorted(operations, key=lambda o: o.invoked)
        self.done = [o for o in by_invocation if o.returned is not None]
        self.maybe = [o for o in by_invocation if o.returned is None and o.kind != 'read']
        self.initial = initial

    def next_ones(self, first, placed, maybes):
        """Indices that may come next: whatever was invoked before the first of the rest returned."""
        deadline, window = float('inf'), []
        for i in range(first, len(self.done)):
            if self.done[i].invoked > deadline:
                break
            if not placed >> (i - first) & 1:
                window.append(i)
                deadline = min(deadline, self.done[i].returned)
        window = sorted((i for i in window if self.done[i].invoked <= deadline), key=lambda i: self.done[i].returned)
        return window, [j for j, o in enumerate(self.maybe) if not maybes >> j & 1 and o.invoked <= deadline]

    def successors(self, state):
        first, placed, maybes, value = state
        window, perhaps = self.next_ones(first, placed, maybes)
        # A read that sees what is there changes nothing: if any order exists, one with it here does.
        reads = [i for i in window if self.done[i].kind == 'read' and self.done[i].fits(value)]
        for i in reads[:1] or window:
            if self.done[i].fits(value):
                at, bits = first, placed | 1 << (i - first)
                while bits & 1:
                    at, bits = at + 1, bits >> 1
                yield at, bits, maybes, self.done[i].after(value)
        if not reads:
            for j in perhaps:
                yield first, placed, maybes | 1 << j, self.maybe[j].after(value)

    def run(self, limit):
        """None if there is an order, else the state that got furthest."""
        start = deepest = (0, 0, 0, self.initial)
        stack, seen = [self.successors(start)], {start}
        if not self.done:
            return None
        while stack:
            state = next(stack[-1], None)
            if state is None:
                stack.pop()
            elif state not in seen:
                if state[0] == len(self.done):
                    return None
                if len(seen) >= limit:
                    raise Undecided(f'no order found among {limit} states')
                seen.add(state)
                deepest = max(deepest, state, key=lambda s: s[0] + s[1].bit_count())
                stack.append(self.successors(state))
        return deepest

    def explain(self, state):
        first, placed, maybes, value = state
        window, perhaps = self.next_ones(first, placed, maybes)
        rest = '; '.join([str(self.done[i]) for i in window] + [str(self.maybe[j]) for j in perhaps])
        return f'after {first + placed.bit_count()} of {len(self.done)} operations the register holds {value!r}, and no order goes on with: {rest}'


def violations(history, initial=None, limit=2_000_000):
    """What is wrong with a history over any number of registers; each of them is checked alone (linearizability is local).
    Empty: it is linearizable."""
    wrong = []
    for register in sorted({o.register for o in history}):
        search = Search([o for o in history if o.register == register], initial)
        try:
            state = search.run(limit)
        except Undecided as e:
            wrong.append(f'register {register}: {e}')
            continue
        if state is not None:
            wrong.append(f'register {register} is not linearizable: {search.explain(state)}')
    return wrong
