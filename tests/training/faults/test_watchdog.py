import time

from locvlm.io import write_json
from locvlm.training.faults.watchdog import COMPUTING, DATA, FOLDER, Watchdog, describe_heartbeats


def heartbeat(folder, rank, *, step=7, doing=COMPUTING, age=0.0):
    row = {"rank": rank, "host": "node", "process": 1, "step": step, "doing": doing}
    row["alive"] = time.time() - age
    write_json(folder / f"rank-{rank}.json", row)


def first_named(folder):
    return describe_heartbeats(folder, num_ranks=3, quiet_s=5).split(" on ")[0]


def test_a_rank_of_which_nothing_is_heard_comes_first(tmp_path):
    heartbeat(tmp_path, 0)
    heartbeat(tmp_path, 1, age=60)
    heartbeat(tmp_path, 2, doing=DATA)
    assert first_named(tmp_path) == "rank 1"
    assert "last heard of 60 s ago" in describe_heartbeats(tmp_path, num_ranks=3, quiet_s=5)


def test_a_rank_of_an_earlier_start_with_more_of_them_is_not_named(tmp_path):
    heartbeat(tmp_path, 0)
    heartbeat(tmp_path, 3, age=9000)
    assert first_named(tmp_path) == "rank 0"


def test_then_one_that_waits_for_its_data_while_others_compute(tmp_path):
    heartbeat(tmp_path, 0)
    heartbeat(tmp_path, 1)
    heartbeat(tmp_path, 2, doing=DATA)
    assert first_named(tmp_path) == "rank 2"


def test_a_run_that_stands_still_is_reported_and_one_that_ended_is_not(tmp_path, caplog):
    watchdog = Watchdog(tmp_path, stalled_after_s=0.4)

    class State:
        global_step = 3

    watchdog.on_train_begin(None, State, None)
    watchdog.on_step_begin(None, State, None)
    deadline = time.monotonic() + 20
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.05)
    (first, *_) = (record.getMessage() for record in caplog.records)
    assert first.startswith("no step for 0 s: rank 0 on ")
    assert "computes after step 3" in first
    watchdog.on_train_end(None, State, None)
    time.sleep(0.2)
    caplog.clear()
    time.sleep(1)
    assert not caplog.records


def test_zero_never_looks(tmp_path):
    watchdog = Watchdog(tmp_path, stalled_after_s=0)

    class State:
        global_step = 0

    watchdog.on_train_begin(None, State, None)
    time.sleep(0.1)
    assert not (tmp_path / FOLDER).exists()
