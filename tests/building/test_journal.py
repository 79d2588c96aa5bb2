import errno
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from locvlm.building.journal import Journal, differing

ARGUMENTS = {"seed": 0, "inputs": {"0": "abc"}}


def test_items_are_there_again_after_a_restart(tmp_path):
    journal = Journal(tmp_path / "a.jsonl", made_by=ARGUMENTS)
    journal.add("1", {"text": "Ünïcode"})
    journal.add("2", {})
    journal.close()
    again = Journal(tmp_path / "a.jsonl", made_by=ARGUMENTS)
    assert list(again.values()) == [("1", {"text": "Ünïcode"}), ("2", {})]
    assert "1" in again
    assert "3" not in again
    again.add("3", {"n": 3})
    assert again["3"] == {"n": 3}
    assert len(again) == 3
    again.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_cut_off_and_its_item_done_again(tmp_path, cut):
    path = tmp_path / "a.jsonl"
    with_two = Journal(path, made_by=ARGUMENTS)
    with_two.add("1", {"a": 1})
    with_two.add("2", {"b": "x" * 30})
    with_two.close()
    os.truncate(path, path.stat().st_size - cut)
    journal = Journal(path, made_by=ARGUMENTS)
    assert [item for item, _ in journal.values()] == ["1"]
    journal.add("2", {"b": "y"})
    journal.close()
    assert [json.loads(line).get("id") for line in path.read_text().splitlines()] == [None, "1", "2"]


def test_a_journal_killed_before_its_first_line_begins_anew(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"made_by": {"se')
    journal = Journal(tmp_path / "a.jsonl", made_by=ARGUMENTS)
    assert len(journal) == 0


def test_other_arguments_are_refused_by_name_unless_overwritten(tmp_path):
    Journal(tmp_path / "a.jsonl", made_by=ARGUMENTS).add("1", {})
    with pytest.raises(ValueError, match="seed: now 1, then 0"):
        Journal(tmp_path / "a.jsonl", made_by={**ARGUMENTS, "seed": 1})
    assert len(Journal(tmp_path / "a.jsonl", made_by={**ARGUMENTS, "seed": 1}, overwrite=True)) == 0


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.jsonl"
    Journal(path, made_by=ARGUMENTS).add("1", {})
    with open(path, "a") as file:
        file.write("garbage\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:3: not valid JSON"):
        Journal(path, made_by=ARGUMENTS)


def test_an_item_twice_is_an_error(tmp_path):
    journal = Journal(tmp_path / "a.jsonl", made_by=ARGUMENTS)
    journal.add("1", {})
    with pytest.raises(ValueError, match="are its ids unique"):
        journal.add("1", {})


WORKER = """
import sys
from locvlm.building.journal import Journal
journal = Journal(sys.argv[1], made_by={"seed": 0, "inputs": {"0": "abc"}})
for k in range(100000):
    journal.add(str(k), {"text": "x" * (k % 500)})
    print(k, flush=True)
"""


def test_a_second_process_is_refused_and_a_kill_loses_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        for _ in range(500):
            last = int(other.stdout.readline())
        with pytest.raises(ValueError, match=rf"another process is building a.jsonl \(process {other.pid} "):
            Journal(path, made_by=ARGUMENTS)
        other.send_signal(signal.SIGKILL)
        last = max([last, *map(int, other.stdout.read().split())])
    journal = Journal(path, made_by=ARGUMENTS)
    items = [item for item, _ in journal.values()]
    assert items == [str(k) for k in range(len(items))]
    assert len(items) in (last + 1, last + 2)  # one more may be written and not yet told


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.jsonl"
    journal = Journal(path, made_by=ARGUMENTS)
    journal.add("1", {"a": 1})
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        with pytest.raises(OSError) as caught:  # noqa: PT011 (its number is checked)
            journal.add("2", {"b": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert path.stat().st_size == size
    journal.add("2", {"b": 2})
    assert journal["2"] == {"b": 2}


def test_memory_holds_places_and_not_values(tmp_path):
    journal = Journal(tmp_path / "a.jsonl", made_by=ARGUMENTS)
    for k in range(2000):
        journal.add(str(k), {"text": "x" * 10_000})
    assert sum(map(sys.getsizeof, vars(journal).values())) < 2_000_000  # of 20 MB


def test_the_first_difference_is_named():
    assert differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == "c: now 2, then 3"
    assert differing({"a": 1}, {"a": 1, "b": 2}) == "b: now None, then 2"
    assert differing({"a": [1]}, {"a": [1]}) == ""
