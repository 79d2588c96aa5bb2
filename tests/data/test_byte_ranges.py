import os

import pytest

from locvlm.data.byte_ranges import CutOff, read_range


def read_in_child(path, start, size):
    """What a forked process reads, and which place in the open file it leaves to its parent."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.write(send, read_range(path, start, size))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(send)
    data = os.read(receive, 1000)
    os.close(receive)
    return data


def test_ranges_are_what_lies_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    assert read_range(path, 0, 3) == b"\x00\x01\x02"
    assert read_range(str(path), 98, 2) == b"bc"
    assert read_range(path, 50, 0) == b""


def test_parent_and_forked_process_use_one_open_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    assert read_range(path, 0, 2) == b"\x00\x01"
    assert read_in_child(path, 98, 2) == b"bc"
    assert read_range(path, 2, 2) == b"\x02\x03"


def test_a_file_that_ends_before_is_named(tmp_path):
    path = tmp_path / "short.tar"
    path.write_bytes(b"abc")
    with pytest.raises(CutOff, match=r"short.tar: expected 5 bytes from byte 1 on, .* after 2 of them"):
        read_range(path, 1, 5)


def test_a_replaced_file_is_read_anew(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    assert read_range(path, 0, 3) == b"old"
    (tmp_path / "b").write_bytes(b"new")
    os.replace(tmp_path / "b", path)
    assert read_range(path, 0, 3) == b"new"


def test_many_files_do_not_use_up_what_a_process_may_have_open(tmp_path):
    for number in range(300):
        (tmp_path / str(number)).write_bytes(str(number).encode())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for number in range(300):
            assert read_range(tmp_path / str(number), 0, len(str(number))) == str(number).encode()
    assert len(os.listdir("/proc/self/fd")) <= before + 64
