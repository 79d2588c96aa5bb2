import threading

import pytest

from locvlm.evals.asking.look_ahead import look_ahead


@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_the_order_of_the_items(threads):
    assert list(look_ahead(lambda n: n * n, range(50), threads=threads, ahead=7)) == [
        n * n for n in range(50)
    ]
    assert list(look_ahead(str, [], threads=threads, ahead=7)) == []


def test_items_are_worked_on_before_they_are_wanted_and_no_further_ahead_than_allowed():
    begun, may_start = [], threading.Semaphore(0)

    def work(n):
        begun.append(n)
        may_start.release()
        return n

    taken = look_ahead(work, range(100), threads=2, ahead=5)
    assert next(taken) == 0
    for _ in range(6):  # the first, and five that nobody has asked for
        assert may_start.acquire(timeout=20)
    assert sorted(begun) == list(range(6))
    assert next(taken) == 1
    assert may_start.acquire(timeout=20)
    assert sorted(begun) == list(range(7))
    taken.close()


def test_an_error_comes_at_its_items_turn():
    def fail_at_3(n):
        if n == 3:
            raise ValueError("three")
        return n

    taken = look_ahead(fail_at_3, range(10), threads=3, ahead=9)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(taken)
