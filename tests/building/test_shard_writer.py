"""Tar shards: what is written is what training reads, byte for byte the same, and nothing is half there."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from PIL import Image

from locvlm.building.journal import Journal
from locvlm.building.shard_writer import (
    Member,
    plan_tars,
    require_tars,
    tar_names,
    write_tar,
    write_tars,
)
from locvlm.data.dataset import FileDataset
from locvlm.data.image import load_image
from locvlm.io import Ledger, sha256_of
from locvlm.records import Query, Record


def encoded(value, form="JPEG"):
    Image.new("RGB", (20, 10), (value, value, value)).save(file := io.BytesIO(), form)
    return file.getvalue()


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for k in range(7):
        (root / f"{k}.jpg").write_bytes(encoded(30 * k))
    return root


def records(count=7, **more):
    return [
        Record(
            id=f"r{k}",
            image=f"{k}.jpg",
            queries=(Query(objective="caption", answer=f"a dög, {k}"),),
            source={"image_id": f"r{k}"},
            **more,
        )
        for k in range(count)
    ]


@pytest.fixture
def pack(tmp_path):
    """Packs records as a build does; gives the records that are in each tar, and the ledger."""

    def run(plans, root, folder=tmp_path / "tars", **options):
        journal = Journal(tmp_path / "journal.jsonl", made_by={})
        ledger = Ledger("image files")
        try:
            return list(
                write_tars(plans, folder, image_root=root, journal=journal, ledger=ledger, **options)
            ), ledger
        finally:
            journal.close()

    run.journal = tmp_path / "journal.jsonl"
    run.folder = tmp_path / "tars"
    return run


def test_members_are_where_they_are_said_to_be(tmp_path):
    path = tmp_path / "a.tar"
    long = "x" * 200 + ".jpg"  # needs a header of its own
    contents = [("a.txt", b""), ("b.txt", b"one"), ("c.bin", bytes(range(256)) * 4), (long, b"long")]
    members = write_tar(path, contents)
    data = path.read_bytes()
    assert [member.name for member in members] == [name for name, _ in contents]
    for (_, expected), member in zip(contents, members, strict=True):
        assert data[member.start : member.start + member.size] == expected
    with tarfile.open(path) as tar:
        assert members == [Member(info.name, info.offset_data, info.size) for info in tar]
        assert {(info.mtime, info.uid, info.uname) for info in tar} == {(0, 0, "")}


def test_training_reads_the_samples_that_records_and_images_give(pack, images):
    plans = plan_tars(records(), samples_per_tar=3)
    written, ledger = pack(plans, images)
    assert [[record.id for record in part] for part in written] == [
        ["r0", "r1", "r2"],
        ["r3", "r4", "r5"],
        ["r6"],
    ]
    assert ledger.num_kept == 7
    dataset = FileDataset(str(pack.folder / "*.tar"), kind="webdataset")
    assert len(dataset) == 7
    for item, record in zip(dataset, records(), strict=True):
        assert (item.id, item.queries, item.source) == (record.id, record.queries, record.source)
        expected = load_image(images / record.image)
        assert load_image(item.image).tobytes() == expected.tobytes()


def test_keys_have_as_many_digits_as_the_last_one_needs():
    plans = plan_tars(records(3), samples_per_tar=2)
    assert [key for plan in plans for key, _ in plan.samples] == ["000000", "000001", "000002"]
    assert tar_names(2) == ["00000.tar", "00001.tar"]
    assert tar_names(100_001)[::100_000] == ["000000.tar", "100000.tar"]
    many = plan_tars(records(1) * 1_000_001, samples_per_tar=10**6)
    assert many[0].samples[0][0] == "0000000"
    assert many[1].samples[0][0] == "1000000"
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        plan_tars(records(3), samples_per_tar=0)


def test_the_bytes_do_not_depend_on_workers_or_the_clock(pack, images, tmp_path):
    plans = plan_tars(records(), samples_per_tar=2)
    pack(plans, images)
    pack.journal.unlink()
    for path in images.iterdir():
        os.utime(path, (1, 1))
    pack(plans, images, folder=tmp_path / "again", workers=2)
    first, again = (
        {path.name: path.read_bytes() for path in folder.glob("*.tar")}
        for folder in (pack.folder, tmp_path / "again")
    )
    assert len(first) == 4
    assert first == again


def test_images_come_out_of_a_zip(pack, images, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in images.iterdir():
            archive.write(path, f"train/{path.name}")
    plans = plan_tars(records(), samples_per_tar=10)
    pack(plans, tmp_path / "images.zip" / "train")
    from_zip = sha256_of(pack.folder / "00000.tar")
    pack.journal.unlink()
    pack(plans, images)
    assert sha256_of(pack.folder / "00000.tar") == from_zip


def test_images_that_cannot_be_used_leave_a_gap_and_are_counted(pack, images):
    (images / "1.jpg").unlink()
    (images / "2.jpg").write_bytes(b"")
    (images / "3.jpg").write_bytes(encoded(90)[:-300])
    (images / "4.jpg").rename(images / "4")  # no extension: its format says
    wanted = records()
    wanted[4] = Record(id="r4", image="4", queries=wanted[4].queries)
    wanted[5] = Record(id="r5", image="5.jpg", width=10, height=20, queries=wanted[5].queries)
    plans = plan_tars(wanted, samples_per_tar=10)

    (part,), ledger = pack(plans, images)
    assert [record.id for record in part] == ["r0", "r3", "r4", "r5", "r6"]
    assert dict(ledger.dropped) == {"no image file": 1, "unreadable image": 1}
    with tarfile.open(pack.folder / "00000.tar") as tar:
        assert "000004.jpeg" in tar.getnames()

    pack.journal.unlink()
    (part,), ledger = pack(plans, images, check_images=True)
    assert [record.id for record in part] == ["r0", "r4", "r6"]
    assert dict(ledger.dropped) == {
        "no image file": 1,
        "unreadable image": 2,
        "image of another size than its record says": 1,
    }


def test_a_tar_without_any_usable_image_is_empty_and_harms_nobody(pack, images):
    (images / "6.jpg").unlink()
    written, _ = pack(plan_tars(records(), samples_per_tar=6), images)
    assert [len(part) for part in written] == [6, 0]
    assert len(FileDataset(str(pack.folder / "*.tar"), kind="webdataset")) == 6


def test_a_path_that_leaves_the_root_stops_the_build(pack, images):
    outside = [Record(id="r0", image="../0.jpg", queries=records()[0].queries)]
    with pytest.raises(ValueError, match="must stay inside its root"):
        pack(plan_tars(outside, samples_per_tar=1), images)
    assert not list(pack.folder.iterdir())


def test_finished_tars_are_kept_and_lost_or_changed_ones_are_written_again(pack, images):
    plans = plan_tars(records(), samples_per_tar=2)
    first, _ = pack(plans, images)
    stamps = {path.name: path.stat().st_mtime_ns for path in pack.folder.iterdir()}
    hashes = {path.name: sha256_of(path) for path in pack.folder.iterdir()}
    (pack.folder / "00001.tar").unlink()
    (pack.folder / "00002.tar").write_bytes(b"torn")
    again, ledger = pack(plans, images)
    assert again == first
    assert ledger.num_kept == 7
    assert {path.name: sha256_of(path) for path in pack.folder.iterdir()} == hashes
    kept = {name for name, stamp in stamps.items() if (pack.folder / name).stat().st_mtime_ns == stamp}
    assert kept == {"00000.tar", "00003.tar"}


def test_images_that_changed_since_are_not_mixed_in(pack, images):
    plans = plan_tars(records(), samples_per_tar=2)
    pack(plans, images)
    (pack.folder / "00001.tar").unlink()
    (images / "2.jpg").write_bytes(encoded(5))
    with pytest.raises(ValueError, match=r"00001.tar was written again and differs"):
        pack(plans, images)


def test_what_a_killed_writer_left_is_cleared_away(pack, images):
    pack.folder.mkdir()
    (pack.folder / ".00000.tar.abc.partial").write_bytes(b"torn")
    pack(plan_tars(records(), samples_per_tar=10), images)
    assert [path.name for path in pack.folder.iterdir()] == ["00000.tar"]


def test_a_full_disk_leaves_no_half_tar(images, tmp_path):
    code = f"""
import resource
from pathlib import Path
from locvlm.building.shard_writer import write_tar
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
write_tar(Path({str(tmp_path)!r}) / "tars" / "00000.tar", [("a.bin", bytes(100_000))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert not list((tmp_path / "tars").iterdir())


def test_missing_tars_are_named(tmp_path):
    (tmp_path / "00000.tar").touch()
    require_tars(tmp_path, ["00000.tar"])
    with pytest.raises(ValueError, match=r"1 of 2 tars are no longer in .*, the first is 00001.tar"):
        require_tars(tmp_path, tar_names(2))
