import contextlib
import os
import signal
import subprocess
import sys

import pytest

from locvlm.building.parallel import map_in_order


def double(value: int) -> int:
    return 2 * value


def halve(value: int) -> float:
    return 1 / (value - 3)


def kill_yourself(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_for_any_number_of_workers(workers):
    assert list(map_in_order(double, range(40), workers)) == [2 * k for k in range(40)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_at_its_items_turn(workers):
    results = map_in_order(halve, range(10), workers)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_killed_worker_is_an_error_and_no_hang():
    with pytest.raises(RuntimeError, match="one of 2 workers was killed"):
        list(map_in_order(kill_yourself, range(4), 2))


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    (tmp_path / "work.py").write_text("import os\n\ndef pid(_):\n    return os.getpid()\n")
    code = (
        "import time\n"
        "from work import pid\n"
        "from locvlm.building.parallel import map_in_order\n"
        "if __name__ == '__main__':\n"
        "    results = map_in_order(pid, range(100), 1)\n"
        "    print(next(results), flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        worker = int(parent.stdout.readline())
        parent.kill()
        rest, _ = parent.communicate(timeout=20)  # ends when no process has this output open any more
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    assert worker != parent.pid
    assert rest == ""


def test_only_a_few_items_are_taken_ahead():
    taken = []

    def items():
        for k in range(1000):
            taken.append(k)
            yield k

    results = map_in_order(double, items(), 1)
    assert next(results) == 0
    assert len(taken) < 10
    results.close()
