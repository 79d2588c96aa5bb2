import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from locvlm.data import index_cache
from locvlm.data.index_cache import cache_folder, open_index


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("LOCVLM_CACHE", str(folder))
    monkeypatch.setattr(index_cache, "CACHE_FROM_BYTES", 100)
    return folder


@pytest.fixture
def large(tmp_path):
    """A file that is large enough to have its index kept."""
    path = tmp_path / "large"
    path.write_bytes(bytes(200))
    return path


class Builder:
    """Counts how often it is asked."""

    def __init__(self, rows=((1, 2), (3, 4))):
        self.rows = np.array(rows, dtype=np.int64)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.rows


def kept(cache):
    return sorted(path.name for path in cache.glob("*.npy"))


def test_an_index_is_made_once_and_mapped_from_then_on(cache, large):
    build = Builder()
    first, second = (open_index("words", [large], build) for _ in range(2))
    assert build.calls == 1
    assert kept(cache) == [first.file.name]
    assert first.file.name.startswith("words-")
    for index in (first, second):
        assert index.rows.tolist() == [[1, 2], [3, 4]]
        assert isinstance(index.rows.base, np.memmap)


def test_what_is_sent_to_a_worker_is_the_path(cache, large):
    index = open_index("words", [large], Builder(np.zeros((100_000, 2))))
    sent = pickle.dumps(index)
    assert len(sent) < 500
    assert pickle.loads(sent).rows.shape == (100_000, 2)
    small = pickle.loads(pickle.dumps(index_cache.Index(np.arange(3))))
    assert (small.rows.tolist(), small.file) == ([0, 1, 2], None)


def test_small_files_leave_nothing_in_the_cache(cache, tmp_path):
    (tmp_path / "small").write_bytes(bytes(99))
    assert open_index("words", [tmp_path / "small"], Builder()).file is None
    assert not cache.exists()


def test_a_changed_file_and_another_kind_have_their_own_index(cache, large):
    old = open_index("words", [large], Builder([[0, 0]])).file
    assert open_index("lines", [large], Builder([[9, 9]])).rows.tolist() == [[9, 9]]
    large.write_bytes(bytes(201))
    new = open_index("words", [large], Builder([[1, 1]]))
    assert new.file != old
    assert new.rows.tolist() == [[1, 1]]
    os.utime(large, ns=(0, 0))
    assert open_index("words", [large], Builder([[2, 2]])).rows.tolist() == [[2, 2]]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY cut", b"something else"])
def test_a_damaged_index_is_made_again(cache, large, damage, caplog):
    found = open_index("words", [large], Builder()).file
    found.write_bytes(damage)
    build = Builder()
    assert open_index("words", [large], build).rows.tolist() == [[1, 2], [3, 4]]
    assert build.calls == 1
    assert "is made again" in caplog.text


def test_a_cut_index_is_made_again(cache, large):
    found = open_index("words", [large], Builder(np.ones((5000, 2)))).file
    found.write_bytes(found.read_bytes()[:-8])
    assert open_index("words", [large], Builder(np.ones((5000, 2)))).rows.sum() == 10_000


def test_without_a_cache_folder_the_index_stays_in_memory_and_says_so(large, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(index_cache, "CACHE_FROM_BYTES", 100)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LOCVLM_CACHE", str(tmp_path / "file"))
    index = open_index("words", [large], Builder())
    assert (index.file, index.rows.tolist()) == (None, [[1, 2], [3, 4]])
    assert "LOCVLM_CACHE" in caplog.text


def test_an_error_of_the_data_is_passed_on_and_keeps_nothing(cache, large):
    def build():
        raise ValueError("the data is wrong")

    with pytest.raises(ValueError, match="the data is wrong"):
        open_index("words", [large], build)
    assert kept(cache) == []


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("LOCVLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/locvlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/locvlm"


PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from locvlm.data import index_cache

index_cache.CACHE_FROM_BYTES = 100

def build():
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    return np.full((1000, 2), 7)

print(index_cache.open_index("words", [Path(sys.argv[1])], build).rows.sum(), flush=True)
"""


def start(large, seconds):
    command = [sys.executable, "-c", PROGRAM, str(large), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_need_the_same_index_wait_for_the_one_that_makes_it(cache, large):
    first = start(large, 1)
    assert first.stdout.readline() == "building\n"
    second = start(large, 1)
    assert [p.communicate(timeout=60)[0] for p in (first, second)] == ["14000\n", "14000\n"]
    assert len(kept(cache)) == 1


def test_a_killed_build_leaves_no_index_and_no_lock(cache, large):
    first = start(large, 60)
    assert first.stdout.readline() == "building\n"
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=60)
    first.stdout.close()
    assert kept(cache) == []
    begun = time.monotonic()
    assert open_index("words", [large], Builder()).rows.tolist() == [[1, 2], [3, 4]]
    assert time.monotonic() - begun < 30  # the lock went with its process
    assert len(kept(cache)) == 1
