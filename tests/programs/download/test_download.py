"""What the scripts of scripts/download/ share: transfers that are cut, killed, refused or wrong."""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time

import pytest

PHOTOGRAPH = bytes(range(256)) * 400  # 102,400 bytes


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_comes_whole_and_a_second_run_leaves_it_alone(declare, tmp_path, server, download):
    server.files["/a/photo.bin"] = PHOTOGRAPH
    checksum, md5 = sha256(PHOTOGRAPH), hashlib.md5(PHOTOGRAPH).hexdigest()
    script = declare(
        f"file photo https://host.example/a/photo.bin sub/photo.bin {checksum} {len(PHOTOGRAPH)}",
        f"file again https://host.example/a/photo.bin again.bin {md5}",
    )
    first = download(script, tmp_path / "data")
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "data/sub/photo.bin").read_bytes() == PHOTOGRAPH
    assert (tmp_path / "data/again.bin").read_bytes() == PHOTOGRAPH
    assert not list(tmp_path.rglob("*.partial"))
    second = download(script, tmp_path / "data")
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("there: ") == 2
    assert server.requests == [("/a/photo.bin", None)] * 2


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_cut_transfer_goes_on_in_the_same_run_and_in_the_next(
    program, declare, tmp_path, server, download, without
):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server.files["/photo.bin"] = PHOTOGRAPH
    server.cuts["/photo.bin"] = [30_000, 20_000, 10_000]
    script = declare(f"file photo http://host.example/photo.bin photo.bin {sha256(PHOTOGRAPH)}")
    path = without({"curl", "wget"} - {program})
    first = download(script, tmp_path / "data", PATH=path, LOCVLM_DOWNLOAD_TRIES=1)
    assert first.returncode == 1
    assert "run this again to go on" in first.stderr
    assert (tmp_path / "data/photo.bin.partial").stat().st_size == 30_000
    assert not (tmp_path / "data/photo.bin").exists()
    second = download(script, tmp_path / "data", PATH=path, LOCVLM_DOWNLOAD_TRIES=2)
    assert second.returncode == 0, second.stderr  # cut twice: tries that get on do not count
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH
    assert [asked for _, asked in server.requests] == [None, "bytes=30000-", "bytes=50000-", "bytes=60000-"]


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_server_that_cannot_go_on_is_asked_for_all_of_it(
    program, declare, tmp_path, server, download, without
):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server.files["/photo.bin"] = PHOTOGRAPH
    server.cuts["/photo.bin"] = [30_000]
    server.with_ranges = False
    script = declare(f"file photo http://host.example/photo.bin photo.bin {sha256(PHOTOGRAPH)}")
    path = without({"curl", "wget"} - {program})
    done = download(script, tmp_path / "data", PATH=path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_transfer_that_ended_unseen_is_taken_over_or_made_again(
    program, declare, tmp_path, server, download, without
):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server.files["/photo.bin"] = PHOTOGRAPH
    partial = tmp_path / "data/photo.bin.partial"
    partial.parent.mkdir()
    path = without({"curl", "wget"} - {program})
    # of the size that is known: nothing is asked; of an unknown size, or longer than the file: all of it
    for found, size, requests in (
        (PHOTOGRAPH, f"- {len(PHOTOGRAPH)}", 0),
        (PHOTOGRAPH, "", 2),
        (PHOTOGRAPH + b"more", "", 2),
    ):
        partial.write_bytes(found)
        script = declare(f"file photo http://host.example/photo.bin photo.bin {size}")
        done = download(script, tmp_path / "data", PATH=path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH
        assert len(server.requests) == requests
        server.requests.clear()
        (tmp_path / "data/photo.bin").unlink()


def test_a_killed_transfer_goes_on_where_it_was(declare, tmp_path, server, download, settings):
    server.files["/photo.bin"] = PHOTOGRAPH
    server.stalls["/photo.bin"] = [len(PHOTOGRAPH) // 2]
    script = declare(f"file photo http://host.example/photo.bin photo.bin {sha256(PHOTOGRAPH)}")
    partial = tmp_path / "data/photo.bin.partial"
    with subprocess.Popen(
        ["bash", script, tmp_path / "data"], env=settings, start_new_session=True, stdout=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size > 30_000):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    there = partial.stat().st_size
    assert not (tmp_path / "data/photo.bin").exists()
    done = download(script, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH
    assert [asked for _, asked in server.requests] == [None, f"bytes={there}-"]


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_server_that_says_no_more_is_asked_again(program, declare, tmp_path, server, download, without):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server.files["/photo.bin"] = PHOTOGRAPH
    server.stalls["/photo.bin"] = [40_000]
    script = declare(f"file photo http://host.example/photo.bin photo.bin {sha256(PHOTOGRAPH)}")
    path = without({"curl", "wget"} - {program})
    done = download(script, tmp_path / "data", PATH=path, LOCVLM_DOWNLOAD_STALL=1)
    assert done.returncode == 0, done.stderr
    assert "cut at 40000 bytes" in done.stderr
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_full_disk_is_named_and_what_came_is_kept(program, declare, tmp_path, server, download, without):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server.files["/photo.bin"] = PHOTOGRAPH
    file = f"file photo http://host.example/photo.bin photo.bin {sha256(PHOTOGRAPH)}"
    full = declare("trap '' XFSZ", "ulimit -f 40", file)  # no file beyond 40 KiB
    path = without({"curl", "wget"} - {program})
    refused = download(full, tmp_path / "data", PATH=path)
    assert refused.returncode == 1
    assert "photo.bin.partial cannot be written; is the disk full?" in refused.stderr
    assert len(server.requests) == 1
    assert not (tmp_path / "data/photo.bin").exists()
    assert (tmp_path / "data/photo.bin.partial").stat().st_size == 40 * 1024
    done = download(declare(file), tmp_path / "data", PATH=path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH
    assert server.requests[-1] == ("/photo.bin", f"bytes={40 * 1024}-")


@pytest.mark.parametrize("size", ["1000000000000000", '"about 1000000 GB"'])
def test_too_little_room_is_said_before_anything_is_fetched(size, declare, tmp_path, server, download):
    server.files["/photo.bin"] = PHOTOGRAPH
    script = declare(
        "file small http://host.example/photo.bin small.bin",
        f"file large http://host.example/photo.bin large.bin - {size}",
    )
    refused = download(script, tmp_path / "data")
    assert refused.returncode == 1
    assert (
        " and 1000000.00 GB are needed for what is asked for; make room, or fetch it part" in refused.stderr
    )
    assert server.requests == []
    assert download(script, tmp_path / "data", "small").returncode == 0


def test_a_program_that_is_missing_is_named_before_anything_is_fetched(
    declare, tmp_path, server, download, without, zipped
):
    server.files["/val.zip"] = zipped({"val/a.jpg": b"a"})
    script = declare("archive val http://host.example/val.zip coco val")
    no_transfer = download(script, tmp_path / "data", PATH=without({"curl", "wget", "unzip", "python3"}))
    assert no_transfer.returncode == 1
    assert "neither curl nor wget is here; install one of them" in no_transfer.stderr
    path = without({"unzip", "python3"})
    no_unzip = download(script, tmp_path / "data", PATH=path)
    assert no_unzip.returncode == 1
    assert (
        "neither unzip nor python3 is here; install one of them, or leave the zips packed" in no_unzip.stderr
    )
    assert server.requests == []
    assert download(script, "--no-unpack", tmp_path / "data", PATH=path).returncode == 0


def test_a_server_that_cannot_go_on_and_always_cuts_is_given_up(declare, tmp_path, server, download):
    server.files["/photo.bin"] = PHOTOGRAPH
    server.cuts["/photo.bin"] = [30_000] * 20
    server.with_ranges = False
    script = declare("file photo http://host.example/photo.bin photo.bin")
    refused = download(script, tmp_path / "data", LOCVLM_DOWNLOAD_TRIES=4)
    assert refused.returncode == 1
    assert "given up after 4 tries without progress" in refused.stderr
    assert not (tmp_path / "data/photo.bin").exists()


def test_a_wrong_checksum_or_size_is_refused_and_fetched_anew(declare, tmp_path, server, download):
    server.files["/photo.bin"] = b"x" * len(PHOTOGRAPH)
    for wanted, reason in (
        (sha256(PHOTOGRAPH), f"its sha256 is {sha256(server.files['/photo.bin'])} instead of"),
        ("- 102401", "102400 bytes instead of 102401"),
    ):
        script = declare(f"file photo http://host.example/photo.bin photo.bin {wanted}")
        refused = download(script, tmp_path / "data", LOCVLM_DOWNLOAD_TRIES=1)
        assert refused.returncode == 1
        assert reason in refused.stderr
        assert not (tmp_path / "data/photo.bin").exists()
        assert (tmp_path / "data/photo.bin.rejected").exists()
    server.files["/photo.bin"] = PHOTOGRAPH
    script = declare(f"file photo http://host.example/photo.bin photo.bin {sha256(PHOTOGRAPH)}")
    assert download(script, tmp_path / "data").returncode == 0
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH


def test_another_file_of_that_name_is_refused_and_stays(declare, tmp_path, server, download):
    server.files["/photo.bin"] = PHOTOGRAPH
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photo.bin").write_bytes(b"mine")
    script = declare(f"file photo http://host.example/photo.bin photo.bin - {len(PHOTOGRAPH)}")
    refused = download(script, tmp_path / "data")
    assert refused.returncode == 1
    assert "4 bytes instead of 102400. It stays as it is; move it away to fetch it." in refused.stderr
    assert (tmp_path / "data/photo.bin").read_bytes() == b"mine"
    assert server.requests == []


def test_a_file_that_is_not_on_the_server_is_named_at_once(declare, tmp_path, server, download):
    script = declare("file photo http://host.example/gone/photo.bin photo.bin")
    refused = download(script, tmp_path / "data")
    assert refused.returncode == 1
    assert f"{server.base}/gone/photo.bin: the server answers 404" in refused.stderr
    assert len(server.requests) == 1
    assert not list((tmp_path / "data").glob("photo*"))


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_server_that_is_overloaded_is_asked_again(program, declare, tmp_path, server, download, without):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server.files["/photo.bin"] = PHOTOGRAPH
    server.refusals["/photo.bin"] = [503, 429]
    script = declare("file photo http://host.example/photo.bin photo.bin")
    path = without({"curl", "wget"} - {program})
    done = download(script, tmp_path / "data", PATH=path, LOCVLM_DOWNLOAD_TRIES=3)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/photo.bin").read_bytes() == PHOTOGRAPH
    server.refusals["/photo.bin"] = [503, 503]
    (tmp_path / "data/photo.bin").unlink()
    refused = download(script, tmp_path / "data", PATH=path, LOCVLM_DOWNLOAD_TRIES=2)
    assert "given up after 2 tries without progress (last answer: 503)" in refused.stderr


def test_a_page_in_place_of_a_file_is_refused(declare, tmp_path, server, download):
    server.files["/a.zip"] = server.files["/a.json"] = b"<html>please sign in</html>"
    for line, reason in (
        ("archive a http://host.example/a.zip . -", "no zip, it begins with '<h'"),
        ("file a http://host.example/a.json a.json", "no JSON, it begins with '<h'"),
    ):
        refused = download(declare(line), tmp_path / "data")
        assert refused.returncode == 1
        assert reason in refused.stderr


def test_two_at_once_do_not_write_to_the_same_files(declare, tmp_path, server, download):
    server.files["/photo.bin"] = PHOTOGRAPH
    script = declare("file photo http://host.example/photo.bin photo.bin")
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/.download-some.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = download(script, tmp_path / "data")
        assert "another one is at work" in refused.stderr
        assert server.requests == []
    assert download(script, tmp_path / "data").returncode == 0
