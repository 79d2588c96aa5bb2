import math
import random

import pytest

from locvlm.geometry import (
    Box,
    Crop,
    Cut,
    CutPolicy,
    Flip,
    Frame,
    Point,
    Resize,
    Turn,
    build_frame,
    frame_of,
    has_left_right,
    iou,
    place_box,
    plan_steps,
    swap_left_right,
)


def random_frames(seed, n):
    rng = random.Random(seed)
    for _ in range(n):
        size = (rng.randint(1, 900), rng.randint(1, 900))
        yield (
            rng,
            size,
            build_frame(
                rng.choice(["stretch", "pad", "crop"]),
                size,
                rng.choice([112, 224, 336]),
                exif=rng.randint(1, 8),
                flip=rng.random() < 0.5,
            ),
        )


def random_box(rng, size):
    xs, ys = sorted(rng.uniform(0, size[0]) for _ in "ab"), sorted(rng.uniform(0, size[1]) for _ in "ab")
    return Box(xs[0], ys[0], xs[1], ys[1])


def test_box_sizes_and_iou_of_two_hand_made_boxes():
    a, b = Box.from_xywh(0, 0, 4, 2), Box(2, 0, 6, 2)
    assert (a.width, a.height, a.area, a.center) == (4, 2, 8, Point(2, 1))
    assert iou(a, b) == pytest.approx(4 / 12)
    assert iou(a, Box(4, 0, 5, 2)) == 0.0  # they only touch
    assert iou(a, Box(1, 1, 1, 1)) == 0.0  # no area
    assert iou(a, a) == 1.0


def test_stretch_divides_by_width_and_height():
    frame = build_frame("stretch", (512, 256), 224)
    assert frame.to_fraction(Box(10, 120, 30, 145)) == pytest.approx(
        (10 / 512, 120 / 256, 30 / 512, 145 / 256)
    )
    assert frame.to_canvas(Point(512, 256)) == pytest.approx((224, 224))


def test_pad_centres_a_wide_image_with_the_odd_pixel_below():
    frame = build_frame("pad", (100, 51), 200)
    # 49 rows of padding: 24 above, 25 below; scale 2
    assert frame.to_canvas(Box(0, 0, 100, 51)) == pytest.approx((0, 48, 200, 150))


def test_crop_rounds_the_long_side_down_and_cuts_the_middle():
    steps = plan_steps("crop", (100, 33), 20)
    assert steps == (Resize(60, 20), Crop(20, 0, 20, 20))  # 20 * 100 / 33 = 60.6
    assert frame_of(steps, (100, 33)).to_canvas(Point(50, 33)) == pytest.approx((10, 20))


def test_every_frame_maps_the_image_onto_the_canvas_and_back():
    for rng, size, frame in random_frames(seed=0, n=300):
        box = random_box(rng, size)
        there = frame.to_canvas(box)
        assert frame.to_source(there) == pytest.approx(box, abs=1e-8)
        assert frame.from_fraction(frame.to_fraction(box)) == pytest.approx(box, abs=1e-8)
        assert frame.to_canvas(box.center) == pytest.approx(there.center, abs=1e-7)
        assert there.width >= 0
        assert there.height >= 0


def test_composition_is_one_map_after_the_other():
    for rng, size, frame in random_frames(seed=1, n=50):
        after = build_frame("crop", frame.canvas_size, 64, exif=rng.randint(1, 8))
        box = random_box(rng, size)
        composed = frame.then(after)
        assert composed.to_canvas(box) == pytest.approx(after.to_canvas(frame.to_canvas(box)), abs=1e-7)
        assert composed.source_size == size


def test_frames_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"ends at .*\(224, 224\).* from \(336, 336\)"):
        build_frame("stretch", (9, 9), 224).then(build_frame("stretch", (336, 336), 224))


def test_mirroring_twice_changes_nothing():
    frame = frame_of((Flip(), Flip()), (37, 11))
    assert frame.to_canvas(Box(1, 2, 3, 4)) == Box(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("exif", "inverse"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)]
)
def test_each_exif_turn_is_undone_by_its_inverse(exif, inverse):
    frame = frame_of((Turn(exif), Turn(inverse)), (30, 20))
    assert frame == Frame((30, 20), (30, 20), (1, 0, 0, 0, 1, 0))


@pytest.mark.parametrize(
    "bad", [{"mode": "letterbox"}, {"size": (0, 5)}, {"canvas": 0}, {"exif": 9}], ids=str
)
def test_impossible_plans_are_refused(bad):
    arguments = {"mode": "stretch", "size": (5, 5), "canvas": 8, "exif": 1} | bad
    with pytest.raises(ValueError, match=r"got|unknown"):
        plan_steps(arguments["mode"], arguments["size"], arguments["canvas"], exif=arguments["exif"])


def test_a_crop_sees_the_middle_half_of_a_two_to_one_image():
    frame = build_frame("crop", (200, 100), 50)  # shows x in [50, 150]
    assert frame.visible_part(Box(40, 10, 60, 20)) == pytest.approx(Box(50, 10, 60, 20))
    assert frame.visible_fraction(Box(40, 10, 60, 20)) == pytest.approx(0.5)
    assert frame.visible_fraction(Box(0, 0, 50, 100)) == 0.0
    assert frame.visible_fraction(Box(50, 0, 150, 100)) == pytest.approx(1.0)


def test_padding_never_counts_as_part_of_the_image():
    frame = build_frame("pad", (200, 100), 50)
    assert frame.visible_part(Box(10, -20, 30, 20)) == pytest.approx(Box(10, 0, 30, 20))


WHOLE, MOST, LITTLE, NONE = Box(60, 0, 80, 9), Box(45, 0, 65, 9), Box(35, 0, 55, 9), Box(0, 0, 20, 9)


@pytest.mark.parametrize(
    ("on_cut", "expected"),
    [
        ("clip", [WHOLE, Box(50, 0, 65, 9), Cut.DROP, Cut.DROP]),
        ("drop", [WHOLE, Cut.DROP, Cut.DROP, Cut.DROP]),
        ("negative", [WHOLE, Box(50, 0, 65, 9), Cut.DROP, Cut.NEGATIVE]),
    ],
)
def test_each_cut_policy_on_whole_mostly_hardly_and_not_visible_boxes(on_cut, expected):
    frame = build_frame("crop", (200, 100), 50)
    policy = CutPolicy(min_visible_fraction=0.5, on_cut=on_cut)
    got = [place_box(frame, box, policy) for box in (WHOLE, MOST, LITTLE, NONE)]
    for a, b in zip(got, expected, strict=True):
        assert a == (b if isinstance(b, Cut) else pytest.approx(b))


def test_stretch_and_pad_keep_every_box_whole():
    for mode in ("stretch", "pad"):
        frame = build_frame(mode, (640, 427), 224)
        assert place_box(frame, Box(0, 0, 640, 427)) == Box(0, 0, 640, 427)


def test_cut_policies_are_checked():
    with pytest.raises(ValueError, match="min_visible_fraction"):
        CutPolicy(min_visible_fraction=0)
    with pytest.raises(ValueError, match="clip, drop, negative"):
        CutPolicy(on_cut="keep")


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("The man on the Left", "The man on the Right"),
        ("leftmost of the RIGHT-hand two", "rightmost of the LEFT-hand two"),
        ("the left-side one looks to the right", "the right-side one looks to the left"),
        ("a bright cleft", "a bright cleft"),
        ("right now, left over food", "right now, left over food"),
        ("the leftovers on the left", "the leftovers on the right"),
    ],
)
def test_left_and_right_change_places_in_a_mirrored_image(text, mirrored):
    assert swap_left_right(text) == mirrored
    assert swap_left_right(mirrored) == text


def test_left_or_right_in_any_sense_is_noticed():
    assert has_left_right("Right now")
    assert has_left_right("the leftmost dog")
    assert not has_left_right("a bright dog in a cleft")


def test_boxes_of_the_mirrored_image_have_swapped_sides():
    plain, flipped = build_frame("pad", (90, 61), 224), build_frame("pad", (90, 61), 224, flip=True)
    a, b = plain.to_canvas(Box(10, 20, 30, 40)), flipped.to_canvas(Box(10, 20, 30, 40))
    assert math.isclose(a.x1, 224 - b.x2)
    assert (a.y1, a.y2) == pytest.approx((b.y1, b.y2))
