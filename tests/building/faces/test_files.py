"""Folders: every file has its counterpart, originals stay as they are, and what is done is not done again."""

import json
import os

import pytest
from PIL import Image

from locvlm.building.faces.files import Blurring, blur_file, clear_torn
from locvlm.building.faces.items import blur_items
from locvlm.building.faces.ledger import ledger_path, ledgers_of, written_before
from locvlm.building.faces.places import fingerprint, list_images_and_videos, require_new_place
from locvlm.building.journal import Journal
from locvlm.geometry import Box
from locvlm.io import read_records, record_to_json, write_records

SIZE = (160, 120)
FACE = Box(40, 30, 80, 80)


@pytest.fixture
def folder(tmp_path, picture):
    """Two images with a face, one without, one broken, and a text."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    picture(SIZE, face=FACE).save(root / "face.png")
    picture(SIZE, face=FACE).save(root / "deep" / "face.jpg", quality=95)
    picture(SIZE).save(root / "plain.png")
    (root / "torn.jpg").write_bytes((root / "deep" / "face.jpg").read_bytes()[:-900])
    (root / "notes.txt").write_text("not an image")
    return root


@pytest.fixture
def how(folder, tmp_path, red_patch):
    return lambda **options: Blurring(source=folder, out=tmp_path / "out", detector=red_patch, **options)


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_files_are_blurred_copied_or_dropped(folder, how, tmp_path):
    before = snapshot(folder)
    names = list_images_and_videos(folder)
    assert names == ["deep/face.jpg", "face.png", "plain.png", "torn.jpg"]
    records = [record for name in names for record in blur_file(name, how())]
    written = snapshot(tmp_path / "out")
    assert set(written) == {"deep/face.jpg", "face.png", "plain.png"}
    assert written["plain.png"] == before["plain.png"]
    assert written["face.png"] != before["face.png"]
    assert [len(record.queries) for record in records] == [1, 1, 0, 0]
    assert records[3].source["dropped"] == "unreadable image"
    assert (records[1].image, records[1].width, records[1].queries[0].box_px) == ("face.png", 160, FACE)
    assert records[1].source["scores"] == [0.8]
    assert set(records[2].source) == {"sha256"}
    assert snapshot(folder) == before


def test_what_an_earlier_build_left_of_a_file_that_is_dropped_now_goes(how, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("torn.jpg", "gone.png"):
        (tmp_path / "out" / name).write_bytes(b"of an earlier build")
        (record,) = blur_file(name, how())
        assert "dropped" in record.source
    assert snapshot(tmp_path / "out") == {}


def test_files_without_a_face_are_linked_if_asked_for(folder, how, tmp_path):
    for _ in range(2):
        for name in ("plain.png", "face.png"):
            blur_file(name, how(link=True))
    assert (tmp_path / "out" / "plain.png").samefile(folder / "plain.png")
    assert not (tmp_path / "out" / "face.png").samefile(folder / "face.png")
    assert set(snapshot(tmp_path / "out")) == {"plain.png", "face.png"}
    original = (folder / "plain.png").read_bytes()
    (tmp_path / "out" / "plain.png").unlink()
    os.link(folder / "face.png", tmp_path / "out" / "face.png.link")
    os.replace(tmp_path / "out" / "face.png.link", tmp_path / "out" / "face.png")
    sharp = (folder / "face.png").read_bytes()
    blur_file("face.png", how())  # over a link: the original must not be written through it
    assert (folder / "face.png").read_bytes() == sharp
    assert (folder / "plain.png").read_bytes() == original


def test_a_name_that_leaves_the_folder_stops_the_build(how):
    with pytest.raises(ValueError, match="must stay inside its root"):
        blur_file("../face.png", how())


def test_the_output_of_a_build_is_blurred_already(folder, how, tmp_path, red_patch):
    records = [record for name in ("face.png", "plain.png") for record in blur_file(name, how())]
    write_records(ledger_path(tmp_path / "out", 1, 3), records)
    assert ledgers_of(tmp_path / "out") == [tmp_path / "out.1-of-3.faces.jsonl"]
    assert len(written_before(tmp_path / "out")) == 1
    again = Blurring(source=tmp_path / "out", out=tmp_path / "again", detector=red_patch)
    repeated = [record for name in ("face.png", "plain.png") for record in blur_file(name, again)]
    assert snapshot(tmp_path / "again") == snapshot(tmp_path / "out")
    assert repeated[0].source["blurred_before"] is True
    assert [record.queries for record in repeated] == [(), ()]


def test_ledgers_of_folders_with_longer_names_are_others(tmp_path):
    for name in (
        "out.faces.jsonl",
        "out2.faces.jsonl",
        "out_b.faces.jsonl",
        "out.0-of-2.faces.jsonl.journal.jsonl",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in ledgers_of(tmp_path / "out")] == [
        "out.0-of-2.faces.jsonl.journal.jsonl",
        "out.faces.jsonl",
    ]


def test_what_the_journal_has_is_not_done_again_unless_its_file_is_lost(folder, how, tmp_path):
    names = list_images_and_videos(folder)

    def run(workers=0):
        journal = Journal(tmp_path / "journal.jsonl", made_by={})
        try:
            return [
                record_to_json(record)
                for record in blur_items(blur_file, names, how(), journal=journal, workers=workers)
            ]
        finally:
            journal.close()

    first = run()
    stamps = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in names[:3]}
    (tmp_path / "out" / "face.png").unlink()
    assert run() == first
    kept = {name for name, t in stamps.items() if (tmp_path / "out" / name).stat().st_mtime_ns == t}
    assert kept == {"deep/face.jpg", "plain.png"}
    assert json.loads(json.dumps(first)) == first


def test_half_written_files_of_a_killed_process_are_cleared(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in (
        ".a.png.x1.partial",
        "deep/.b.jpg.y2.partial",
        ".other.png.z3.partial",
        "a.png",
        ".a.png.x1",
    ):
        (tmp_path / name).touch()
    clear_torn(tmp_path, ["a.png", "deep/b.jpg"])
    assert set(snapshot(tmp_path)) == {".other.png.z3.partial", "a.png", ".a.png.x1"}


def test_places_that_touch_are_refused(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for out in (source, source / "blurred", tmp_path, tmp_path / "other" / ".." / "in" / "x"):
        with pytest.raises(ValueError, match="never replace originals"):
            require_new_place(source, out)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(ValueError, match="never replace originals"):
        require_new_place(source, tmp_path / "link" / "x")
    require_new_place(source, tmp_path / "in_blurred")


def test_a_folder_with_other_files_is_not_written_into(tmp_path):
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    require_new_place(tmp_path / "in", out)
    (out / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="no ledger of faces stands beside it"):
        require_new_place(tmp_path / "in", out)
    require_new_place(tmp_path / "in", out, overwrite=True)
    (tmp_path / "out.faces.jsonl.journal.jsonl").touch()
    require_new_place(tmp_path / "in", out)
    with pytest.raises(ValueError, match="is a file"):
        require_new_place(tmp_path / "in", out / "holiday.jpg")


def test_only_images_and_videos_are_listed(tmp_path, caplog):
    for name in ("b.JPG", "a.mp4", "notes.txt", ".hidden.jpg", "deep/c.webp", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images_and_videos(tmp_path) == ["a.mp4", "b.JPG", "deep/c.webp"]
    assert "3 files are hidden, or by their names neither image nor video" in caplog.text
    with pytest.raises(ValueError, match="no such folder"):
        list_images_and_videos(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image and no video, of 0 files"):
        list_images_and_videos(tmp_path / "empty")


def test_a_build_notices_other_files(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    before = fingerprint(tmp_path, ["a.png"])
    assert fingerprint(tmp_path, ["a.png"]) == before
    assert fingerprint(tmp_path, ["a.png", "b.png"]) != before
    (tmp_path / "a.png").write_bytes(b"changed")
    assert fingerprint(tmp_path, ["a.png"]) != before


def test_records_of_a_ledger_can_be_read_back(folder, how, tmp_path):
    records = [record for name in list_images_and_videos(folder) for record in blur_file(name, how())]
    write_records(tmp_path / "l.jsonl", records)
    assert list(read_records(tmp_path / "l.jsonl")) == records
