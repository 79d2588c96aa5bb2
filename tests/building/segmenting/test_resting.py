import random

import pytest

from locvlm.building.segmenting.resting import StaticRule, annotate_video, build_video_records
from locvlm.building.segmenting.segment import Segment, Segmented
from locvlm.building.segmenting.videos import SegmentedVideo
from locvlm.geometry import Box
from locvlm.io import Ledger, record_from_json, record_to_json
from locvlm.objectives.select import SelectionConfig, make_negatives

SIZE = (448, 896)  # a pixel of the canvas is 2 of its width, 4 of its height


def thing(category, x, y, width=40, height=40, **more):
    return Segment(
        category=category,
        is_thing=more.pop("is_thing", True),
        box_px=Box(x, y, x + width, y + height),
        area_px=width * height,
        **more,
    )


def video(*frames, name="v.mp4"):
    answers = tuple(Segmented(size=SIZE, segments=tuple(segments)) for segments in frames)
    return SegmentedVideo(video=name, size=SIZE, frames=tuple(range(len(frames))), answers=answers)


def objects(*frames, **rule):
    """Category -> its box where it is asked about, None where it is only present."""
    annotation = annotate_video(video(*frames), StaticRule(**rule)).annotation
    return {o.category: None if o.is_crowd else o.box_px for o in annotation.objects}


def test_what_rests_has_the_mean_of_its_boxes():
    frames = [[thing("cup", 100 + k, 200, width=40 + 2 * k)] for k in (0, 1, 2)]
    assert objects(*frames) == {"cup": Box(101, 200, 143, 240)}


def test_what_is_seen_in_one_frame_counts_wherever_it_is():
    assert objects([], [thing("cup", 7, 9)], []) == {"cup": Box(7, 9, 47, 49)}


def test_a_shift_is_measured_on_the_canvas_from_the_mean():
    """Centres at 0 and 20 source pixels: 5 canvas pixels from their mean in width, 2.5 in height."""
    assert objects([thing("cup", 100, 200)], [thing("cup", 120, 200)]) == {"cup": Box(110, 200, 150, 240)}
    assert objects([thing("cup", 100, 200)], [thing("cup", 120.1, 200)]) == {"cup": None}
    assert objects([thing("cup", 100, 200)], [thing("cup", 100, 240)])["cup"] is not None
    assert objects([thing("cup", 100, 200)], [thing("cup", 100, 240.1)]) == {"cup": None}
    assert objects([thing("cup", 100, 200)], [thing("cup", 116, 232)]) == {"cup": None}  # 4 and 4: 5.66


def test_one_frame_of_many_that_moves_is_movement():
    frames = [[thing("cup", 100, 200)]] * 7 + [[thing("cup", 150, 200)]]
    assert objects(*frames) == {"cup": None}
    assert objects(*frames, max_shift=50)["cup"] is not None


def test_two_of_a_class_in_any_frame_are_not_told_apart():
    two = [thing("cup", 100, 200), thing("cup", 300, 200)]
    assert objects([thing("cup", 100, 200)], two) == {"cup": None}
    assert objects(two) == {"cup": None}


def test_a_crowd_is_never_asked_about():
    assert objects([thing("cup", 100, 200, is_crowd=True)]) == {"cup": None}


def test_stuff_is_left_out_unless_it_is_asked_for():
    frame = [thing("cup", 100, 200), thing("sky", 0, 0, 448, 100, is_thing=False)]
    assert set(objects(frame)) == {"cup"}
    assert set(objects(frame, with_stuff=True)) == {"cup", "sky"}


def test_a_rule_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="max_shift must not be negative"):
        StaticRule(max_shift=-1)


def many_videos(num=300):
    """Cups that rest, dogs that run, and one of four classes more in every video."""
    videos = []
    for k in range(num):
        rng = random.Random(k)
        kind = rng.choice(["tv", "bed", "sink", "vase"])
        frames = [[thing(kind, 10, 10), thing("dog", 40 * t, 300)] for t in range(8)]
        if rng.random() < 0.5:
            frames = [[*frame, thing("cup", 100, 200)] for frame in frames]
        videos.append(annotate_video(video(*frames, name=f"{k:03d}.mp4"), StaticRule()))
    return videos


def records_of(videos, config):
    ledger = Ledger("videos")
    negatives = make_negatives([v.annotation for v in videos], config)
    return list(build_video_records(videos, negatives, config, ledger)), ledger


def test_records_are_about_the_video_and_ask_for_what_no_frame_shows():
    config = SelectionConfig(num_negatives=2)
    videos = many_videos()
    records, ledger = records_of(videos, config)
    assert (len(records), ledger.num_kept) == (300, 300)
    for record, annotated in zip(records, videos, strict=True):
        assert (record.image, record.video) == (None, record.id)
        assert (record.width, record.height) == SIZE
        assert record.source == {"frames": [0, 1, 2, 3, 4, 5, 6, 7]}
        present = {o.category for o in annotated.annotation.objects}
        asked = {q.category for q in record.queries if q.objective == "locpred"}
        assert asked == present - {"dog"}
        assert asked == {q.category for q in record.queries if q.objective == "revloc"}
        absent = {q.category for q in record.queries if q.objective == "negpred"}
        assert len(absent) == 2
        assert not absent & present
        assert record_from_json(record_to_json(record)) == record


def test_absent_classes_are_drawn_as_often_as_they_are_asked_about():
    """Dogs are everywhere and never rest: asked for neither way, or the class alone would tell."""
    records, _ = records_of(many_videos(), SelectionConfig(num_negatives=1))
    counts = {name: [0, 0] for name in ("cup", "tv", "bed", "sink", "vase", "dog")}
    for record in records:
        for query in record.queries:
            if query.objective != "revloc":
                counts[query.category][query.objective == "negpred"] += 1
    assert counts["dog"] == [0, 0]
    for present, absent in (counts[name] for name in counts if name != "dog"):
        total = [sum(c[k] for c in counts.values()) for k in (0, 1)]
        assert present / total[0] == pytest.approx(absent / total[1], abs=0.04)


def test_videos_in_which_nothing_rests_are_counted():
    moving = [annotate_video(video([thing("dog", 0, 0)], [thing("dog", 300, 0)]), StaticRule())]
    records, ledger = records_of([*many_videos(3), *moving], SelectionConfig(num_negatives=1))
    assert len(records) == 3
    assert ledger.dropped == {"nothing rests in it": 1}


def test_an_order_of_videos_changes_no_record():
    config = SelectionConfig(num_negatives=2, seed=3)
    videos = many_videos(40)
    there, _ = records_of(videos, config)
    negatives = make_negatives([v.annotation for v in videos], config)
    back = list(build_video_records(videos[::-1], negatives, config, Ledger("videos")))
    assert back[::-1] == there
