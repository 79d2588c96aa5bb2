import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from locvlm.annotations.instruct import read_llava
from locvlm.building.segmenting.panoptic_files import PanopticFiles
from locvlm.building.segmenting.resting import StaticRule, annotate_video
from locvlm.building.segmenting.videos import segment_video
from locvlm.data.video import probe_video, read_frames
from locvlm.geometry import Box
from locvlm.io import read_records
from locvlm.world import write_clips
from locvlm.world.clips import NUM_FRAMES, make_clip
from locvlm.world.write import Split, stream_seed

COUNT = 12
SPLIT = Split(name="val", count=COUNT, seed=1)


def contents(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file() and ".parts" not in p.parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def require_same_clips(folder, expected):
    """Equal files; of the videos, equal pictures but for what coding loses, see `encode_mp4`."""
    got, wanted = contents(folder), contents(expected)
    assert got.keys() == wanted.keys()
    for name in got:
        if not name.endswith(".mp4"):
            assert got[name] == wanted[name], name
            continue
        one, other = (pictures_of(root / name) for root in (folder, expected))
        assert np.abs(one - other).mean() < 1.5  # of 255; coding itself loses 1.3 to 3
        assert np.abs(one[:, :, ::-1] - other).mean() > 5  # mirrored, it is another clip


def pictures_of(video):
    info = probe_video(video)
    frames = read_frames(video, range(NUM_FRAMES), info=info)
    return np.stack([np.asarray(frame.image, dtype=np.float32) for frame in frames])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("clips")
    assert write_clips.write_clips(SPLIT, out, workers=1)
    return out


@pytest.fixture(scope="module")
def clips():
    return [make_clip(stream_seed(1, "val"), index) for index in range(COUNT)]


def test_decoded_frames_are_the_rendered_ones_in_their_order(world, clips):
    for index, clip in enumerate(clips):
        path = world / "videos" / "val" / f"{index:06d}.mp4"
        info = probe_video(path)
        assert (info.num_frames, info.size, info.duration_s) == (NUM_FRAMES, clip.size, 4.0)
        rendered = np.stack([np.asarray(f, np.int16) for f in clip.frames])
        for frame in read_frames(path, range(NUM_FRAMES), info=info):
            away = np.abs(rendered - np.asarray(frame.image, np.int16)).mean((1, 2, 3))  # (T,)
            assert away[frame.index] == away.min(), (index, frame.index)
            assert away[frame.index] < 6  # of 255: half of the colour's pixels are not stored


def test_boxes_lie_where_coded_pixels_differ_from_what_is_behind(world, clips):
    """What moves uncovers its background, so the decoded clip itself tells where it was."""
    found = 0
    for index, clip in enumerate(clips):
        movers = [actor for actor in clip.actors if actor.act == "leaves"]
        if not movers or any(actor.act == "appears" for actor in clip.actors):
            continue
        path = world / "videos" / "val" / f"{index:06d}.mp4"
        first, last = (np.asarray(f.image, np.int16) for f in read_frames(path, [0, NUM_FRAMES - 1]))
        changed = np.abs(first - last).max(-1) > 40
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        # its shadow and the halves of the colour's pixels reach some pixels further
        assert np.abs(np.subtract(seen, movers[0].boxes_px[0])).max() <= 6, (seen, movers[0].boxes_px[0])
        found += 1
    assert found


def test_the_frames_are_coco_with_exact_masks(world, clips, capsys):
    coco = COCO(str(world / "annotations" / "clips_val.json"))
    assert len(coco.dataset["videos"]) == COUNT
    assert len(coco.imgs) == COUNT * NUM_FRAMES
    categories = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    for image in coco.imgs.values():
        clip = clips[image["video_id"] - 1]
        rows = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        seen = [k for k, a in enumerate(clip.actors, start=1) if a.boxes_px[image["frame_id"]]]
        assert [row["instance_id"] for row in rows] == seen
        for row in rows:
            k = row["instance_id"]
            mask = clip.id_maps[image["frame_id"]] == k
            assert np.array_equal(coco_mask.decode(row["segmentation"]).astype(bool), mask)
            assert row["area"] == mask.sum()
            x, y, w, h = row["bbox"]
            assert (x, y, x + w, y + h) == clip.actors[k - 1].boxes_px[image["frame_id"]]
            assert categories[row["category_id"]] == clip.actors[k - 1].category
            assert image["file_name"] == f"{image['video_id'] - 1:06d}.mp4/{image['frame_id']:06d}.jpg"


def test_the_static_rule_finds_what_rests_and_nothing_that_moves(world, clips):
    segmenter = PanopticFiles([world / "annotations" / "panoptic_clips_val.json"])
    for index, clip in enumerate(clips):
        video = f"{index:06d}.mp4"
        segmented = segment_video(video, world / "videos" / "val" / video, segmenter, num_frames=8)
        assert not segmented.failed, segmented.detail
        assert all(not answer.odd for answer in segmented.answers)
        objects = annotate_video(segmented, StaticRule()).annotation.objects
        found = {o.category: o.box_px for o in objects if not o.is_crowd}
        names = [actor.category for actor in clip.actors]
        expected = {
            actor.category: Box(*map(float, actor.boxes_px[-1]))
            for actor in clip.actors
            if actor.direction is None and names.count(actor.category) == 1
        }
        assert found == expected
        assert {o.category for o in objects} == set(names)


def test_what_is_said_about_clips_can_be_read_by_those_who_train_and_evaluate(world, clips):
    notes = world / "annotations"
    taught = list(read_records(notes / "instruct_clips_val.jsonl"))
    asked = list(read_records(notes / "qa_clips_val.jsonl"))
    assert [r.video for r in taught] == [r.video for r in asked] == [f"{k:06d}.mp4" for k in range(COUNT)]
    samples = list(read_llava(notes / "instruct_clips_val.json"))
    assert len(samples) == sum(len(record.queries) for record in taught)
    for clip, both, short in zip(clips, taught, asked, strict=True):
        assert (short.width, short.height) == clip.size
        assert both.queries[1:] == short.queries
        of_clip = [sample for sample in samples if sample.id.startswith(f"{both.id}-")]
        assert [s.video for s in of_clip] == [both.video] * len(both.queries)
        assert [(t.question, t.answer) for s in of_clip for (t,) in s.branches] == [
            (q.question, q.answer) for q in both.queries
        ]


def test_several_workers_write_the_same_clips(world, tmp_path, monkeypatch):
    monkeypatch.setattr(write_clips, "CHUNK", 5)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        write_clips.write_clips(SPLIT, folder, workers=workers)
        require_same_clips(folder, world)


def test_an_interrupted_split_goes_on_and_a_complete_one_stands(world, tmp_path, monkeypatch):
    monkeypatch.setattr(write_clips, "CHUNK", 4)
    made = []

    def fails_in_the_second_part(seed, index):
        made.append(index)
        if len(made) == 7:
            raise KeyboardInterrupt
        return make_clip(seed, index)

    monkeypatch.setattr(write_clips, "make_clip", fails_in_the_second_part)
    with pytest.raises(KeyboardInterrupt):
        write_clips.write_clips(SPLIT, tmp_path, workers=1)
    assert not (tmp_path / "annotations" / "clips_val.json").exists()
    assert write_clips.write_clips(SPLIT, tmp_path, workers=1)
    assert made[7:] == list(range(4, COUNT))  # the first part stood
    require_same_clips(tmp_path, world)
    assert not write_clips.write_clips(SPLIT, tmp_path, workers=1)


def test_other_arguments_replace_what_stands(tmp_path):
    write_clips.write_clips(Split(name="train", count=3, seed=1), tmp_path, workers=1)
    before = contents(tmp_path)
    write_clips.write_clips(Split(name="train", count=2, seed=2), tmp_path, workers=1)
    assert len(list((tmp_path / "videos" / "train").iterdir())) == 2
    video = "videos/train/000000.mp4"
    assert contents(tmp_path)[video] != before[video]
    stamp = json.loads((tmp_path / "annotations" / "clips_train.stamp.json").read_text())
    assert (stamp["seed"], stamp["count"]) == (2, 2)


def test_unknown_and_empty_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot make 0 clips of split 'val'"):
        write_clips.write_clips(Split(name="val", count=0, seed=0), tmp_path)
