"""Registration and the few assertions that system tests need."""
import time

CASES = []


class Failure(Exception):
    pass


def case(ci=True, minutes=5, hosts=2):
    """Marks a system test. ci: part of CI's run; minutes: its limit; hosts: how many it boots, at most 2; they say how
    many cases run beside each other."""
    def mark(function):
        CASES.append((function, ci, minutes * 60, hosts))
        return function
    return mark


def expect(condition, what):
    if not condition:
        raise Failure(what)


def expect_eq(got, wanted, what):
    if got != wanted:
        raise Failure(f'{what}: got {got!r}, wanted {wanted!r}')


def retry(what, probe, seconds=30, pause=0.2):
    """Polls until probe() is true and returns its value."""
    end = time.time() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.time() > end:
            raise Failure(f'{what}: not within {seconds} s')
        time.sleep(pause)
