import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from locvlm.data.video import probe_video, uniform_indices
from locvlm.geometry import Box, iou
from locvlm.io import read_records

_PATH = Path(__file__).parents[1] / "building" / "segmenting" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("segmenting", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
write_panoptic, scene = _MODULE.write_panoptic, _MODULE.scene

ACTIVITYNET = "data_builders/localize_activitynet.py"
MERGE = "data_builders/merge.py"
CATEGORIES = [
    *({"id": k + 1, "name": name, "isthing": 1} for k, name in enumerate(("cup", "dog", "tv", "bed"))),
    {"id": 9, "name": "wall-other-merged", "isthing": 0},
]
CUP, DOG, TV, BED, WALL = 1, 2, 3, 4, 9


def frame_ids(size, boxes):
    """An id map of `size` (width, height) with a segment, numbered by its class, at each box."""
    ids = np.full((size[1], size[0]), WALL)
    for category, (x1, y1, x2, y2) in boxes.items():
        ids[y1:y2, x1:x2] = category
    return ids


@pytest.fixture
def videos(tmp_path, write_clip):
    """`num` clips of 16 frames of 96 x 64 and panoptic files of their 8 frames, at half that size.

    In each a cup rests, but in every third a tv; dogs run.
    """

    def write(num):
        root = tmp_path / "videos"
        (root / "sub").mkdir(parents=True)
        clip = write_clip(tmp_path / "clip.mp4", [np.full((64, 96, 3), 5 * k, np.uint8) for k in range(16)])
        images = {}
        for k in range(num):
            video = f"sub/v_{k:04d}.mp4"
            shutil.copy(clip, root / video)
            for place, frame in enumerate(range(1, 16, 2)):
                rests = TV if k % 3 == 0 else CUP
                boxes = {rests: (4, 4, 14, 16 + place % 2), DOG: (20 + 3 * place, 20, 26 + 3 * place, 28)}
                segments = [(category, category) for category in (*boxes, WALL)]
                images[f"{video}/{frame:06d}.jpg"] = ((96, 64), frame_ids((48, 32), boxes), segments)
        return root, write_panoptic(tmp_path / "seem.json", tmp_path / "seem", images, CATEGORIES)

    return write


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def ledgers_of(path):
    manifest = manifest_of(path)
    return {ledger["name"]: ledger for ledger in [*manifest["ledgers"], *manifest["input_ledgers"]]}


def by_objective(record):
    queries = {name: [] for name in ("locpred", "revloc", "negpred")}
    for query in record.queries:
        queries[query.objective].append((query.category, query.box_px))
    return queries


def test_what_rests_is_asked_about_with_its_mean_box(run, videos, tmp_path):
    root, panoptic = videos(6)
    out, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    options = ["--negatives-per-video", 1, "--preview", page]
    run(ACTIVITYNET, "--videos", root, "--panoptic", panoptic, "--out", out, *options)
    records = list(read_records(out))
    assert [record.video for record in records] == [f"sub/v_{k:04d}.mp4" for k in range(6)]
    for k, record in enumerate(records):
        rests, absent = ("tv", "cup") if k % 3 == 0 else ("cup", "tv")
        assert (record.image, record.width, record.height) == (None, 96, 64)
        assert record.source == {"frames": [1, 3, 5, 7, 9, 11, 13, 15]}
        queries = by_objective(record)
        assert queries["locpred"] == queries["revloc"]
        assert [category for category, _ in queries["locpred"]] == [rests]
        assert queries["locpred"][0][1] == pytest.approx((8, 8, 28, 33))  # 32 and 34 in turn
        assert queries["negpred"] == [(absent, None)]
    assert manifest_of(out)["counts"]["queries"] == {"locpred": 6, "negpred": 6, "revloc": 6}
    assert ledgers_of(out)["segments"]["kept"] == 6 * 8 * 3
    assert page.read_text().count("data:image/jpeg") == 6  # a frame of each video


def test_options_decide_what_rests_and_need_no_segmenting_again(run, videos, tmp_path):
    root, panoptic = videos(6)
    out = tmp_path / "out.jsonl"
    common = ["--videos", root, "--panoptic", panoptic, "--out", out, "--overwrite"]
    run(ACTIVITYNET, *common)
    assert {c for r in read_records(out) for c, _ in by_objective(r)["locpred"]} == {"cup", "tv"}
    shutil.rmtree(panoptic.with_suffix(""))
    said = run(ACTIVITYNET, *common, "--max-shift", 60, "--stuff")
    assert "6 items are done already" in said
    asked = {c for r in read_records(out) for c, _ in by_objective(r)["locpred"]}
    assert asked == {"cup", "tv", "dog", "wall"}
    said = run(ACTIVITYNET, *common, "--max-shift", 0, "--min-area", 10_000, fails=True)
    assert "nothing in it can be asked about" in said


def test_real_clips_with_panoptic_files_made_by_hand(run, shared_data, tmp_path):
    """Segments drawn where things are seen to be; the corrupt clip is in the ledger."""
    root = shared_data / "videos"
    # (width, height) of PNGs, and per clip: class -> box in pixels of the PNG, in every frame
    drawn = {
        "bottle-detection.mp4": ((640, 360), {CUP: (520, 110, 580, 315), TV: (300, 110, 350, 320)}),
        "rotation_video_90.mov": ((160, 284), {TV: (0, 0, 160, 60)}),  # half of the upright 320 x 568
        "bigbuckbunny.mp4": ((640, 360), {BED: (440, 160, 600, 215)}),
        "bikes.mp4": ((640, 272), {}),
    }
    images = {}
    for name, (size, boxes) in drawn.items():
        info = probe_video(root / name)
        for frame in uniform_indices(info, 8):
            segments = [(category, category) for category in (*boxes, WALL)]
            images[f"{name}/{frame:06d}.jpg"] = (info.size, frame_ids(size, boxes), segments)
    panoptic = write_panoptic(tmp_path / "seem.json", tmp_path / "seem", images, CATEGORIES)
    (tmp_path / "list.txt").write_text("\n".join([*drawn, "corrupted.mp4"]))
    out = tmp_path / "out.jsonl"
    common = ["--videos", root, "--video-list", tmp_path / "list.txt", "--panoptic", panoptic, "--out", out]
    assert "dropped 1 of 5 items" in run(ACTIVITYNET, *common, fails=True)
    run(ACTIVITYNET, *common, "--max-dropped-fraction", 0.2)

    records = {record.video: record for record in read_records(out)}
    assert set(records) == set(drawn) - {"bikes.mp4"}
    boxes = {name: dict(by_objective(record)["locpred"]) for name, record in records.items()}
    assert boxes["bottle-detection.mp4"] == {"cup": Box(520, 110, 580, 315), "tv": Box(300, 110, 350, 320)}
    assert boxes["rotation_video_90.mov"] == {"tv": Box(0, 0, 320, 120)}
    assert boxes["bigbuckbunny.mp4"] == {"bed": Box(880, 320, 1200, 430)}
    assert (records["rotation_video_90.mov"].width, records["rotation_video_90.mov"].height) == (320, 568)
    (example,) = ledgers_of(out)["videos"]["reasons"]["image is not in the panoptic JSON"]["examples"]
    assert example.startswith("corrupted.mp4")
    assert ledgers_of(out)["videos that are asked about"]["reasons"]["nothing rests in it"]["count"] == 1


def test_a_checkpoint_finds_what_rests(run, finder, write_clip, shared_data, tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    box = Box(10, 12, 42, 44)
    still = [np.asarray(scene(96, 64, box, seed=k)) for k in range(24)]
    moving = [np.asarray(scene(96, 64, Box(2 * k, 12, 2 * k + 32, 44), seed=k)) for k in range(24)]
    write_clip(root / "still.mp4", still, crf="10")
    write_clip(root / "moving.mp4", moving, crf="10")
    shutil.copy(shared_data / "videos" / "corrupted.mp4", root)
    (tmp_path / "things.txt").write_text("person")
    out = tmp_path / "out.jsonl"
    model = ["--checkpoint", finder, "--things", tmp_path / "things.txt", "--threshold", 0.5]
    loose = ["--max-dropped-fraction", 0.4]
    run(ACTIVITYNET, "--videos", root, *model, "--out", out, *loose)
    (record,) = read_records(out)
    assert record.video == "still.mp4"
    ((category, found),) = by_objective(record)["locpred"]
    assert category == "person"
    assert iou(found, box) > 0.7
    (example,) = ledgers_of(out)["videos"]["reasons"]["unreadable video"]["examples"]
    assert "corrupted.mp4" in example
    assert "frame 28 of 50" in example


def test_a_killed_build_goes_on_where_it_was(run, run_killed, videos, tmp_path):
    root, panoptic = videos(60)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    source = ["--videos", root, "--panoptic", panoptic]
    run(ACTIVITYNET, *source, "--out", whole)
    journal = tmp_path / "out.jsonl.segments.jsonl"
    for lines in (8, 20):
        run_killed(ACTIVITYNET, *source, "--out", out, journal=journal, lines=lines)
        assert not out.exists()
    done = journal.read_bytes().count(b"\n") - 1
    assert 19 <= done < 60
    assert f"{done} items are done already" in run(ACTIVITYNET, *source, "--out", out)
    assert out.read_bytes() == whole.read_bytes()
    assert manifest_of(out) == {**manifest_of(whole), "output": "out.jsonl"}


def test_shards_of_segments_give_the_records_of_one_run(run, videos, tmp_path):
    root, panoptic = videos(10)
    source = ["--videos", root, "--panoptic", panoptic]
    run(ACTIVITYNET, *source, "--out", tmp_path / "whole.jsonl")
    parts = [tmp_path / f"part{k}.jsonl" for k in range(3)]
    for k, part in enumerate(parts):
        run(ACTIVITYNET, *source, "--segments-only", "--shard", f"{k}/3", "--out", part)
    merged = tmp_path / "segments.jsonl"
    run(MERGE, "--out", merged, *parts[::-1])
    assert manifest_of(merged)["counts"] == {"odd": {}}
    out = tmp_path / "out.jsonl"
    run(ACTIVITYNET, "--videos", root, "--segments", merged, "--out", out)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert ledgers_of(out) == ledgers_of(tmp_path / "whole.jsonl")

    for k in range(2):  # records have shards too, once all segments are known
        shard = ["--segments", merged, "--shard", f"{k}/2", "--out", tmp_path / f"records{k}.jsonl"]
        run(ACTIVITYNET, "--videos", root, *shard)
    run(MERGE, "--out", tmp_path / "all.jsonl", tmp_path / "records0.jsonl", tmp_path / "records1.jsonl")
    assert (tmp_path / "all.jsonl").read_bytes() == out.read_bytes()


def test_what_cannot_be_is_refused(run, videos, tmp_path):
    root, panoptic = videos(3)
    out = tmp_path / "out.jsonl"
    source = ["--videos", root, "--panoptic", panoptic, "--out", out]
    said = run(ACTIVITYNET, *source, "--shard", "0/2", fails=True)
    assert "absent classes are drawn by what all videos show" in said
    said = run(ACTIVITYNET, *source, "--checkpoint", "x", fails=True)
    assert "say where segments come from, once" in said
    said = run(ACTIVITYNET, "--videos", tmp_path / "none", "--panoptic", panoptic, "--out", out, fails=True)
    assert "no such folder or zip" in said
    said = run(ACTIVITYNET, *source, "--segments-only", "--preview", tmp_path / "page.html", fails=True)
    assert "--preview draws records" in said
    frames = tmp_path / "frames" / "frames.jsonl"  # of extract_frames: no segments yet
    run("data_builders/extract_frames.py", "--videos", root, "--out", frames)
    said = run(ACTIVITYNET, "--videos", root, "--segments", frames, "--out", out, fails=True)
    assert "frames.jsonl:1: expected what localize_activitynet --segments-only writes" in said
    (tmp_path / "list.txt").write_text("../secret.mp4")
    said = run(ACTIVITYNET, *source, "--video-list", tmp_path / "list.txt", fails=True)
    assert "must stay inside its root" in said


def test_training_refuses_these_records_rather_than_training_on_their_text(run, videos, tmp_path):
    from locvlm.data.dataset import FileDataset

    root, panoptic = videos(3)
    out = tmp_path / "out.jsonl"
    run(ACTIVITYNET, "--videos", root, "--panoptic", panoptic, "--out", out)
    with pytest.raises(ValueError, match="video records are for stage 3"):
        FileDataset(out)[0]
    rendered = ["--records", out, "--out", tmp_path / "llava.json"]
    assert "is about a video" in run("scripts/render_llava.py", *rendered, fails=True)
