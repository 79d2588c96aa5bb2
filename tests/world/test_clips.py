import random
from collections import Counter

import numpy as np
import pytest

from locvlm.data.video import uniform_indices
from locvlm.world.clip_words import NOTHING, SIDES, ask_clip, describe_clip
from locvlm.world.clips import MIN_WAY, NUM_FRAMES, NUM_SAMPLED, SAMPLED, STEPS, make_clip

CLIPS = [make_clip(3, index) for index in range(60)]
ACTORS = [(clip, k, actor) for clip in CLIPS for k, actor in enumerate(clip.actors, start=1)]


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


def center(box):
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def test_a_clip_depends_on_seed_and_index_alone():
    first, again, other = make_clip(3, 7), make_clip(3, 7), make_clip(4, 7)
    assert [f.tobytes() for f in first.frames] == [f.tobytes() for f in again.frames]
    assert first.actors == again.actors
    assert other.frames[0].tobytes() != first.frames[0].tobytes()


def test_every_kind_of_act_and_direction_occurs():
    acts = Counter((actor.act, actor.direction) for _, _, actor in ACTORS)
    assert set(acts) == {
        ("rests", None),
        ("appears", None),
        *((act, direction) for act in ("moves", "leaves") for direction in STEPS),
    }
    for clip in CLIPS:
        of_clip = Counter(actor.act for actor in clip.actors)
        assert of_clip["rests"] >= 1
        assert of_clip["moves"] + of_clip["leaves"] <= 1
        assert of_clip["appears"] <= 1


def test_boxes_are_the_extents_of_the_visible_pixels():
    for clip, k, actor in ACTORS:
        assert len(actor.boxes_px) == len(clip.frames) == len(clip.id_maps) == NUM_FRAMES
        assert actor.boxes_px == tuple(extent(ids == k) for ids in clip.id_maps)
    assert {side % 2 for clip in CLIPS for side in clip.size} == {0}


def test_what_rests_has_one_box_and_what_appears_has_it_from_then_on():
    for _, _, actor in ACTORS:
        if actor.act == "rests":
            assert set(actor.boxes_px) == {actor.boxes_px[0]}
        elif actor.act == "appears":
            first = next(t for t, box in enumerate(actor.boxes_px) if box)
            assert 0 < first <= NUM_FRAMES / 2
            assert set(actor.boxes_px[:first]) == {None}
            assert len(set(actor.boxes_px[first:])) == 1


def test_what_moves_goes_far_in_its_direction_and_in_no_other():
    for clip, _, actor in ACTORS:
        if actor.act != "moves":
            continue
        way = (center(actor.boxes_px[-1]) - center(actor.boxes_px[0])) / clip.size
        along = way @ np.array(STEPS[actor.direction])
        # what stands in front may hide a part of it, which moves the middle of what is seen
        assert along > MIN_WAY - 0.15
        assert abs(way).max() == pytest.approx(along)


def test_what_leaves_is_cut_off_by_the_side_that_it_leaves_at_and_does_not_come_back():
    found = 0
    for clip, _, actor in ACTORS:
        if actor.act != "leaves":
            continue
        last = max(t for t, box in enumerate(actor.boxes_px) if box)
        assert last < NUM_FRAMES - 1
        x1, y1, x2, y2 = actor.boxes_px[last]
        gaps = {"left": x1, "up": y1, "right": clip.size[0] - x2, "down": clip.size[1] - y2}
        found += gaps[actor.direction] == 0
        assert np.array_equal(np.asarray(clip.frames[-1]), np.asarray(clip.frames[-2]))
    assert found >= 12  # not where something stands before that side


def test_the_sampled_frames_are_those_that_readers_of_videos_take(tmp_path, write_clip):
    from locvlm.data.video import probe_video

    path = write_clip(
        tmp_path / "clip.mp4", [np.full((64, 96, 3), 5 * k, np.uint8) for k in range(NUM_FRAMES)]
    )
    assert tuple(uniform_indices(probe_video(path), NUM_SAMPLED)) == SAMPLED


def test_answers_say_what_the_actors_do():
    asked = [(clip, a) for index, clip in enumerate(CLIPS) for a in ask_clip(clip, random.Random(index))]
    kinds = Counter(a.type for _, a in asked)
    assert set(kinds) == {"what moves", "what leaves", "what appears", "direction", "side", "yes/no"}
    for clip, a in asked:
        by_act = {actor.act: actor for actor in clip.actors}
        mover = by_act.get("moves") or by_act.get("leaves")
        if a.type == "what moves":
            assert a.answer == (mover.category if mover else NOTHING)
        elif a.type in ("what leaves", "what appears"):
            actor = by_act.get(a.type.removeprefix("what "))
            assert a.answer == (actor.category if actor else NOTHING)
        elif a.type == "yes/no":
            assert (a.answer == "yes") == (
                mover is not None and f" {mover.category} " in f"{a.question[:-1]} "
            )
        else:
            assert mover.category in a.question
            assert a.answer == (mover.direction if a.type == "direction" else SIDES[mover.direction])
    said = Counter(a.answer for _, a in asked if a.type == "yes/no")
    assert 0.3 < said["yes"] / said.total() < 0.7


def test_descriptions_name_every_object_and_what_it_does():
    words = {"rests": "stays where it is", "appears": "appears", "moves": "moves", "leaves": "leaves"}
    for index, clip in enumerate(CLIPS):
        text = describe_clip(clip, random.Random(index))
        assert text[0].isupper()
        assert text.endswith(".")
        for actor in clip.actors:
            assert actor.category in text
            assert words[actor.act] in text
            assert actor.direction is None or (SIDES[actor.direction] in text or actor.direction in text)
