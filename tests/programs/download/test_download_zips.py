"""Zips that scripts/download/ fetches: unpacked whole or not at all, over nothing, and nowhere else."""

import io
import shutil
import zipfile

import pytest

UNPACKERS = pytest.mark.parametrize("lacking", [set(), {"unzip"}], ids=["unzip", "python"])


@UNPACKERS
def test_a_zip_is_unpacked_once_and_can_be_deleted_then(
    lacking, declare, tmp_path, server, download, zipped, without
):
    server.files["/val.zip"] = zipped({"val/a b.jpg": b"a", "val/sub/b.jpg": b"b"})
    script = declare("archive val http://host.example/val.zip coco val")
    data = tmp_path / "data"
    path = without(lacking)
    first = download(script, data, PATH=path)
    assert first.returncode == 0, first.stderr
    assert (data / "coco/val/a b.jpg").read_bytes() == b"a"
    assert (data / "coco/val/sub/b.jpg").read_bytes() == b"b"
    assert not (data / "coco/.unpacking-val.zip").exists()
    (data / "coco/val.zip").unlink()
    (data / "coco/val/a b.jpg").write_bytes(b"blurred")
    second = download(script, data, PATH=path)
    assert second.returncode == 0, second.stderr
    assert "there: " in second.stdout
    assert (data / "coco/val/a b.jpg").read_bytes() == b"blurred"
    assert len(server.requests) == 1


def test_no_unpack_leaves_the_zip_and_a_later_run_unpacks_it(declare, tmp_path, server, download, zipped):
    server.files["/images.zip"] = zipped({"1.jpg": b"1"})
    script = declare("archive images http://host.example/images.zip cc3m -")
    data = tmp_path / "data"
    assert download(script, "--no-unpack", data).returncode == 0
    assert (data / "cc3m/images.zip").exists()
    assert not (data / "cc3m/1.jpg").exists()
    assert download(script, data).returncode == 0
    assert (data / "cc3m/1.jpg").read_bytes() == b"1"
    assert len(server.requests) == 1


def test_two_zips_share_a_folder_but_no_file_is_replaced(declare, tmp_path, server, download, zipped):
    server.files["/2017.zip"] = zipped({"notes/2017.json": b"{}", "notes/same.json": b"{1}"})
    server.files["/2014.zip"] = zipped({"notes/2014.json": b"{}", "notes/same.json": b"{1}"})
    server.files["/other.zip"] = zipped({"notes/2014.json": b"{other}", "notes/new.json": b"{}"})
    data = tmp_path / "data"
    lines = [
        f"archive {name} http://host.example/{name}.zip coco notes" for name in ("2017", "2014", "other")
    ]
    done = download(declare(*lines[:2]), data)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (data / "coco/notes").iterdir()) == [
        "2014.json",
        "2017.json",
        "same.json",
    ]
    refused = download(declare(*lines), data)
    assert refused.returncode == 1
    assert "coco/notes/2014.json is there, and differs" in refused.stderr
    assert (data / "coco/notes/2014.json").read_bytes() == b"{}"
    (data / "coco/notes/2014.json").unlink()
    assert download(declare(*lines), data).returncode == 0
    assert (data / "coco/notes/2014.json").read_bytes() == b"{other}"


def test_what_an_interrupted_unpacking_left_is_made_good(declare, tmp_path, server, download, zipped):
    server.files["/val.zip"] = zipped({"val/a.jpg": b"a", "val/b.jpg": b"b"})
    half = tmp_path / "data/coco/.unpacking-val.zip/val/a.jpg"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"")
    script = declare("archive val http://host.example/val.zip coco val")
    assert download(script, tmp_path / "data").returncode == 0
    assert (tmp_path / "data/coco/val/a.jpg").read_bytes() == b"a"


def test_a_zip_that_holds_something_else_or_is_damaged_is_refused(
    declare, tmp_path, server, download, zipped
):
    server.files["/val.zip"] = zipped({"images/a.jpg": b"a"})
    server.files["/bad.zip"] = zipped({"val/a.jpg": bytes(10_000)})[:-200]
    for name, reason in (("val", "holds no val, but: images"), ("bad", "cannot be unpacked")):
        script = declare(f"archive {name} http://host.example/{name}.zip coco val")
        refused = download(script, tmp_path / "data")
        assert refused.returncode == 1
        assert reason in refused.stderr
        assert not (tmp_path / "data/coco/val").exists()


@UNPACKERS
@pytest.mark.parametrize(
    "name", ["../evil.txt", "val/../../evil.txt", "/evil.txt", "val\\..\\..\\evil.txt", "val/.."]
)
def test_no_member_leads_out_of_the_folder(
    name, lacking, declare, tmp_path, server, download, zipped, without
):
    server.files["/val.zip"] = zipped({"val/a.jpg": b"a", name: b"evil", "val/b.jpg": b"b"})
    script = declare("archive val http://host.example/val.zip coco val")
    refused = download(script, tmp_path / "data", PATH=without(lacking))
    assert refused.returncode == 1
    assert "coco/val.zip has a member that would lead out of its folder: " in refused.stderr
    kept = {".download-some.lock", "coco", "val.zip"}
    assert {path.name for path in (tmp_path / "data").rglob("*")} == kept
    assert not list(tmp_path.rglob("evil*"))


@UNPACKERS
def test_dots_in_a_name_lead_nowhere(lacking, declare, tmp_path, server, download, zipped, without):
    server.files["/val.zip"] = zipped({"val/..a.jpg": b"a", "val/b...jpg": b"b", "val/c../d": b"d"})
    script = declare("archive val http://host.example/val.zip coco val")
    done = download(script, tmp_path / "data", PATH=without(lacking))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/coco/val/..a.jpg").read_bytes() == b"a"
    assert (tmp_path / "data/coco/val/c../d").read_bytes() == b"d"


@UNPACKERS
def test_no_link_of_a_zip_leads_out_of_the_folder(lacking, declare, tmp_path, server, download, without):
    outside = tmp_path / "outside"
    outside.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("val/link")
        link.create_system, link.external_attr = 3, 0o120777 << 16  # a symbolic link, made on Unix
        archive.writestr(link, str(outside))
    server.files["/val.zip"] = buffer.getvalue()
    script = declare("archive val http://host.example/val.zip coco val")
    done = download(script, tmp_path / "data", PATH=without(lacking))
    assert done.returncode == len({"unzip"} - lacking), "python writes the address as a text"
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_symlink()]
    assert not list(outside.iterdir())


@UNPACKERS
def test_a_zip_larger_than_the_disk_is_refused_before_it_is_unpacked(
    lacking, declare, tmp_path, server, download, without
):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("val/a.jpg", b"a")
        archive.filelist[0].file_size = 10**15  # as its table of contents says it
    server.files["/val.zip"] = buffer.getvalue()
    script = declare("archive val http://host.example/val.zip coco val")
    refused = download(script, tmp_path / "data", PATH=without(lacking))
    assert refused.returncode == 1
    assert " and 1000000.00 GB are needed for the contents of " in refused.stderr
    assert not list((tmp_path / "data/coco").glob(".unpacking*"))


@UNPACKERS
def test_a_disk_that_fills_up_while_a_zip_is_unpacked_leaves_nothing_half_done(
    lacking, declare, tmp_path, server, download, zipped, without
):
    server.files["/val.zip"] = zipped({"val/a.jpg": b"a", "val/b.jpg": bytes(60_000)})
    archive = "archive val http://host.example/val.zip coco val"
    path = without(lacking)
    assert download(declare(archive), "--no-unpack", tmp_path / "data", PATH=path).returncode == 0
    full = declare("trap '' XFSZ", "ulimit -f 40", archive)  # no file beyond 40 KiB
    refused = download(full, tmp_path / "data", PATH=path)
    assert refused.returncode == 1
    assert "val.zip cannot be unpacked, see above" in refused.stderr
    assert [path.name for path in (tmp_path / "data/coco").iterdir()] == ["val.zip"]
    assert download(declare(archive), tmp_path / "data", PATH=path).returncode == 0
    assert (tmp_path / "data/coco/val/b.jpg").read_bytes() == bytes(60_000)


def test_a_zip_that_names_a_file_twice_asks_nobody(declare, tmp_path, server, download, zipped):
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed")
    once = zipped({"val/a.jpg": b"a", "val/b.jpg": b"b"})
    server.files["/val.zip"] = once.replace(b"val/b.jpg", b"val/a.jpg")
    script = declare("archive val http://host.example/val.zip coco val")
    done = download(script, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/coco/val/a.jpg").read_bytes() == b"b"
