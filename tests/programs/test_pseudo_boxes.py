import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from locvlm.annotations.coco import read_instances
from locvlm.geometry import Box, iou
from locvlm.io import Ledger, read_records

_PATH = Path(__file__).parents[1] / "building" / "segmenting" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("segmenting", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
write_panoptic, scene = _MODULE.write_panoptic, _MODULE.scene

LOCALIZE = "data_builders/localize_instruct.py"
PSEUDO = "data_builders/pseudo_boxes.py"
CATEGORIES = [
    {"id": 3, "name": "dog", "isthing": 1},
    {"id": 90, "name": "cat", "isthing": 1},
    {"id": 200, "name": "sky-other-merged", "isthing": 0},
]


@pytest.fixture
def panoptic(tmp_path):
    """Files of `num` images of 60 x 40, segmented at half their size: a dog or a cat or both, and sky."""

    def write(num):
        images = {}
        for k in range(num):
            ids = np.full((20, 30), 3)
            ids[4:10, 2 + k % 10 : 12 + k % 10] = 1
            ids[12:18, 20:28] = 2
            animals = ([(1, 3)], [(1, 90)], [(1, 3), (2, 90)])[k % 3]
            if len(animals) == 1:
                ids[ids == 2] = 3
            images[f"{k:05d}.jpg"] = ((60, 40), ids, [*animals, (3, 200)])
        return write_panoptic(tmp_path / "panoptic.json", tmp_path / "panoptic", images, CATEGORIES)

    return write


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def journal_of(path):
    return path.with_name(f"{path.name}.segments.jsonl")


def test_panoptic_files_become_instances_that_other_builders_read(run, panoptic, tmp_path):
    out = tmp_path / "instances.json"
    said = run(PSEUDO, "--panoptic", panoptic(30), "--out", out)
    assert "segments: kept 70" in said  # 3 + 20 of animals, 30 of sky
    images = list(read_instances(out, Ledger("annotations")))
    assert [image.image for image in images] == [f"{k:05d}.jpg" for k in range(30)]
    assert [[o.category for o in image.objects] for image in images[:3]] == [["dog"], ["cat"], ["dog", "cat"]]
    assert images[0].objects[0].box_px == Box(4, 8, 24, 20)
    assert manifest_of(out)["counts"] == {"odd": {}, "images": 30, "annotations": 40}

    records = tmp_path / "records.jsonl"
    run(
        "data_builders/localize_instruct.py", "--instances", out, "--out", records, "--negatives-per-image", 1
    )
    queries = [query for record in read_records(records) for query in record.queries]
    assert sum(query.objective == "locpred" for query in queries) == 40
    assert sum(query.objective == "negpred" for query in queries) == 20  # where one of the two is absent


def test_stuff_and_small_segments_by_option(run, panoptic, tmp_path):
    out = tmp_path / "instances.json"
    run(PSEUDO, "--panoptic", panoptic(3), "--out", out, "--stuff", "--min-area", 200)
    images = list(read_instances(out, Ledger("annotations")))
    assert [[(o.category, o.is_crowd) for o in image.objects] for image in images] == [
        [("dog", False), ("sky", False)],
        [("cat", False), ("sky", False)],
        [("dog", False), ("cat", True), ("sky", False)],  # 6 x 8 pixels of the PNG are 192
    ]


def test_a_checkpoint_finds_boxes_in_a_folder_and_in_a_zip(run, finder, tmp_path):
    boxes = [Box(8, 12, 40, 36), Box(30, 10, 62, 60), Box(4, 4, 60, 30)]
    (tmp_path / "images" / "sub").mkdir(parents=True)
    names = ["sub/0.png", "sub/1.png", "z.png"]
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, box in zip(names, boxes, strict=True):
            scene(96, 64, box).save(tmp_path / "images" / name)
            archive.write(tmp_path / "images" / name, name)
    (tmp_path / "images" / "torn.png").write_bytes(b"\x89PNG")
    (tmp_path / "things.txt").write_text("person\n")
    (tmp_path / "llava.json").write_text(json.dumps([{"image": name} for name in names[::-1]]))
    common = ["--checkpoint", finder, "--things", tmp_path / "things.txt", "--threshold", 0.5]

    folder, archived, page = tmp_path / "folder.json", tmp_path / "zip.json", tmp_path / "page.html"
    loose = ["--max-dropped-fraction", 0.3, "--preview", page]
    said = run(PSEUDO, "--image-root", tmp_path / "images", "--out", folder, *common, *loose)
    assert "unreadable image" in said
    common += ["--images", tmp_path / "llava.json"]
    run(PSEUDO, "--image-root", tmp_path / "images.zip", "--out", archived, *common)

    for path, order in ((folder, 1), (archived, -1)):
        images = list(read_instances(path, Ledger("annotations")))
        assert [image.image for image in images] == names[::order]
        for image, box in zip(images, boxes[::order], strict=True):
            assert (image.width, image.height) == (96, 64)
            assert [o.category for o in image.objects] == ["person"]
            assert iou(image.objects[0].box_px, box) > 0.7
    assert page.read_text().count("data:image/jpeg") == 6  # three images, as they are and stretched


def test_a_killed_build_goes_on_where_it_was(run, run_killed, panoptic, tmp_path):
    source = panoptic(1500)
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    run(PSEUDO, "--panoptic", source, "--out", whole)
    for lines in (200, 500):
        run_killed(PSEUDO, "--panoptic", source, "--out", out, journal=journal_of(out), lines=lines)
        assert not out.exists()
    done = journal_of(out).read_bytes().count(b"\n") - 1
    assert 499 <= done < 1500
    with open(journal_of(out), "ab") as file:
        file.write(b'{"id": "009')  # a line that was torn
    said = run(PSEUDO, "--panoptic", source, "--out", out)
    assert f"{done} items are done already" in said
    assert out.read_bytes() == whole.read_bytes()
    assert manifest_of(out)["counts"] == manifest_of(whole)["counts"]
    assert "is there already, complete" in run(PSEUDO, "--panoptic", source, "--out", out)


def test_other_options_need_no_segmenting_again(run, panoptic, tmp_path):
    source, out = panoptic(6), tmp_path / "out.json"
    run(PSEUDO, "--panoptic", source, "--out", out)
    for png in (tmp_path / "panoptic").iterdir():
        png.unlink()
    said = run(PSEUDO, "--panoptic", source, "--out", out, "--stuff", "--overwrite")
    assert "6 items are done already" in said
    assert manifest_of(out)["counts"]["annotations"] == 8 + 6


def test_shards_put_together_are_the_whole(run, panoptic, tmp_path):
    source = panoptic(11)
    whole, merged = tmp_path / "whole.json", tmp_path / "merged.json"
    run(PSEUDO, "--panoptic", source, "--out", whole, "--limit", 10)
    parts = [tmp_path / f"part{k}.json" for k in range(3)]
    for k, part in enumerate(parts):
        run(PSEUDO, "--panoptic", source, "--out", part, "--limit", 10, "--shard", f"{k}/3")
    run("data_builders/merge.py", "--out", merged, *parts[::-1])
    assert merged.read_bytes() == whole.read_bytes()
    one, other = manifest_of(merged), manifest_of(whole)
    assert {**one, "output": ""} == {**other, "output": ""}
    said = run("data_builders/merge.py", "--out", tmp_path / "no.json", *parts[:2], fails=True)
    assert "1 of 3 shards are missing" in said


def test_workers_change_nothing(run, panoptic, tmp_path):
    source = panoptic(8)
    run(PSEUDO, "--panoptic", source, "--out", tmp_path / "0.json")
    run(PSEUDO, "--panoptic", source, "--out", tmp_path / "2.json", "--workers", 2)
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_files_that_do_not_fit_are_counted_and_stop_the_build_over_the_limit(run, panoptic, tmp_path):
    source, out = panoptic(10), tmp_path / "out.json"
    (tmp_path / "panoptic" / "00003.jpg.png").unlink()
    edit(source, lambda d: d["annotations"][0]["segments_info"].pop(0))
    edit(source, lambda d: d["annotations"][1]["segments_info"][0].update(area=1))
    said = run(PSEUDO, "--panoptic", source, "--out", out, fails=True)
    assert "dropped 1 of 10 items" in said
    assert "unreadable PNG of segments" in said
    assert not out.exists()
    run(PSEUDO, "--panoptic", source, "--out", out, "--max-dropped-fraction", 0.1)
    images, segments = manifest_of(out)["ledgers"]
    assert images["reasons"]["unreadable PNG of segments"]["examples"][0].startswith("00003.jpg")
    assert segments["reasons"]["pixels of an id that is not in segments_info"]["count"] == 1
    assert manifest_of(out)["counts"]["odd"] == {"area differs from the pixels": 1}


def test_what_cannot_be_is_refused(run, panoptic, instances, tmp_path):
    source, out = panoptic(3), tmp_path / "out.json"
    assert "expected a COCO panoptic file" in run(PSEUDO, "--panoptic", instances, "--out", out, fails=True)
    assert "say where segments come from" in run(PSEUDO, "--out", out, fails=True)
    said = run(PSEUDO, "--checkpoint", "x", "--out", out, fails=True)
    assert "say where the images are" in said
    run(PSEUDO, "--panoptic", source, "--out", out)
    said = run(PSEUDO, "--panoptic", source, "--out", out, "--stuff", fails=True)
    assert "made by other arguments (stuff: now True, then False)" in said
