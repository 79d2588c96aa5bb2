import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from locvlm.geometry import Box
from locvlm.io import (
    Ledger,
    atomic_writer,
    read_json,
    read_jsonl,
    read_records,
    record_from_json,
    record_to_json,
    resolve_inside,
    sha256_of,
    write_json,
    write_jsonl,
    write_records,
)
from locvlm.records import Query, Record

RECORD = Record(
    id="coco/9",
    image="train/000000000009.jpg",
    width=640,
    height=480,
    queries=(
        Query(objective="locpred", phrase="a cat", category="cat", box_px=Box(1, 2.5, 30, 40)),
        Query(objective="negpred", phrase="a dog", category="dog"),
        Query(objective="revloc", phrase="a cat", box_px=Box(1, 2.5, 30, 40)),
        Query(objective="vqa", question="How many?", answer="two"),
    ),
    source={"data_set": "coco", "image_id": 9},
)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    text_only = Record(id="t", image=None, queries=(Query(objective="vqa", question="Who?", answer="Ä 你"),))
    path = tmp_path / "records.jsonl"
    assert write_records(path, [RECORD, text_only]) == 2
    assert list(read_records(path)) == [RECORD, text_only]
    assert isinstance(next(read_records(path)).queries[0].box_px, Box)


def test_defaults_are_left_out_and_boxes_are_lists() -> None:
    assert record_to_json(RECORD)["queries"][:2] == [
        {"objective": "locpred", "phrase": "a cat", "category": "cat", "box_px": [1, 2.5, 30, 40]},
        {"objective": "negpred", "phrase": "a dog", "category": "dog"},
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": []}, "unknown field 'boxes'; expected id, image, width"),
        ({"width": "640"}, "width must be int, got '640'"),
        ({"width": True}, "width must be int"),
        ({"queries": {}}, "queries must be list"),
        ({"width": 0}, "needs an image with its width and height"),
        ({"image": None}, "needs an image"),
        ({"queries": ["x"]}, "queries[0]: expected an object"),
        ({"queries": [{"objective": "locate"}]}, "unknown objective 'locate'; expected locpred"),
        ({"queries": [{"objective": "locpred", "phrase": "cat"}]}, "a locpred query needs 'box_px'"),
        ({"queries": [{"objective": "caption"}]}, "a caption query needs 'answer'"),
        ({"queries": [{"objective": "negpred", "phrase": "cat", "source": []}]}, "source must be dict"),
        ({"queries": [{"objective": "negpred", "phrase": "cat", "box_px": [1, 2, 3, 4]}]}, "no box"),
        ({"queries": [{"objective": "negpred", "phrase": "cat", "color": "red"}]}, "unknown field 'color'"),
        ({"queries": [{"objective": "revloc", "phrase": "cat", "box_px": [1, 2, 3]}]}, "box_px must be"),
        ({"queries": [{"objective": "revloc", "phrase": "cat", "box_px": [5, 2, 3, 9]}]}, "x1 < x2"),
        ({"queries": [{"objective": "revloc", "phrase": "cat", "box_px": ["1", 2, 3, 9]}]}, "box_px must be"),
    ],
)
def test_a_record_that_is_not_right_is_refused(change: dict[str, Any], message: str) -> None:
    row = {**record_to_json(RECORD), **change}
    with pytest.raises(ValueError, match=r"^data\.jsonl:3: .*" + re.escape(message)):
        record_from_json(row, where="data.jsonl:3")


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([5, 2, 5, 9], "x1 < x2 and y1 < y2, got [5, 2, 5, 9]"),
        ([5, 9, 7, 9], "x1 < x2 and y1 < y2, got [5, 9, 7, 9]"),
        ([640, 0, 650, 10], "[640, 0, 650, 10] lies outside of its image; expected pixels within 640 x 480"),
        ([-9, 10, 0, 20], "[-9, 10, 0, 20] lies outside"),
        ([10, 480, 20, 490], "[10, 480, 20, 490] lies outside"),
    ],
)
def test_a_box_that_shows_nothing_of_its_image_is_refused(box: list[int], message: str) -> None:
    row = {**record_to_json(RECORD), "queries": [{"objective": "revloc", "phrase": "cat", "box_px": box}]}
    with pytest.raises(ValueError, match=r"^data\.jsonl:3: queries\[0\]: .*" + re.escape(message)):
        record_from_json(row, where="data.jsonl:3")


def test_a_box_that_reaches_over_the_border_of_its_image_is_kept() -> None:
    box = [-5, -5, 645, 485]
    row = {**record_to_json(RECORD), "queries": [{"objective": "revloc", "phrase": "cat", "box_px": box}]}
    assert record_from_json(row).queries[0].box_px == Box(*box)


def video_row(**change: Any) -> dict[str, Any]:
    """A record of a video as it stands in a file."""
    query = {"objective": "revloc", "phrase": "cat", "box_px": [1, 2, 30, 40]}
    row = {"id": "v", "image": None, "video": "a/v.mp4", "width": 64, "height": 48, "queries": [query]}
    return {**row, **change}


def test_a_record_of_a_video_comes_back_as_it_was_written() -> None:
    record = record_from_json(video_row())
    assert (record.image, record.video) == (None, "a/v.mp4")
    assert record_to_json(record) == video_row()
    assert "video" not in record_to_json(RECORD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "a.jpg"}, "about an image or a video, got image 'a.jpg' and video 'a/v.mp4'"),
        ({"video": 3}, "video must be str or null, got 3"),
        ({"video": None}, "needs an image with its width and height, or a video with them"),
        ({"width": 0}, "needs an image with its width and height, or a video with them"),
        ({"width": 1}, "lies outside of its image; expected pixels within 1 x 48"),
    ],
)
def test_a_record_of_a_video_that_is_not_right_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^data\.jsonl:3: .*" + re.escape(message)):
        record_from_json(video_row(**change), where="data.jsonl:3")


@pytest.mark.parametrize("missing", ["id", "image"])
def test_a_record_needs_its_id_and_its_image_or_null(missing: str) -> None:
    row = record_to_json(RECORD)
    del row[missing]
    with pytest.raises(ValueError, match=f"'{missing}' is missing"):
        record_from_json(row)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1', "not valid JSON"),
        (b"[1, 2]", "one JSON object per line, got list"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    rows = read_jsonl(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(ValueError, match=rf"^{path}:3: .*{message}"):
        next(rows)


def test_a_broken_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n oops}')
    with pytest.raises(ValueError, match=r"a\.json:2: not valid JSON"):
        read_json(tmp_path / "a.json")


def test_json_comes_back_and_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, "ä"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, "ä"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "b.jsonl", [{"a": float("nan")}])
    assert not (tmp_path / "b.jsonl").exists()


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(UnicodeEncodeError), atomic_writer(path) as out:
        print("half", "\ud800", file=out)
    assert list(path.parent.iterdir()) == []
    with atomic_writer(path) as out:
        out.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["file.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("relative", ["", ".", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "x\0y"])
def test_paths_of_data_files_cannot_leave_their_root(tmp_path: Path, relative: str) -> None:
    with pytest.raises(ValueError, match="must stay inside its root"):
        resolve_inside(tmp_path, relative)


def test_paths_inside_the_root_are_joined_and_links_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "images").symlink_to(tmp_path / "elsewhere")
    assert resolve_inside(tmp_path / "root", "images/./a.jpg").is_file()
    assert resolve_inside(tmp_path, "a/../..b") == tmp_path / "..b"


def test_the_ledger_counts_by_reason_and_stops_over_its_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger("coco")
    ledger.require_dropped_at_most(0.0)
    ledger.keep(95)
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            ledger.drop(number, "zero-area box", "[1, 1, 1, 5]")
        ledger.drop("x", "crowd")
    assert len([r for r in caplog.records if "dropped" in r.message and "zero-area" in r.message]) == 3
    assert ledger.summary() == "coco: kept 95, dropped 5 (4 zero-area box, 1 crowd)"
    ledger.require_dropped_at_most(0.05)
    with pytest.raises(ValueError, match=r"dropped 5 of 100 items, 5\.00%, more than the limit of 4\.00%"):
        ledger.require_dropped_at_most(0.04)
    ledger.save(tmp_path / "ledger.json", seed=1)
    saved = json.loads((tmp_path / "ledger.json").read_text())
    assert (saved["kept"], saved["dropped"], saved["seed"]) == (95, 5, 1)
    assert saved["reasons"]["zero-area box"]["count"] == 4
    assert saved["reasons"]["crowd"]["examples"] == ["x"]
