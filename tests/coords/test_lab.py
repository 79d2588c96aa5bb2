import pytest

from locvlm.coords.contract import CoordinateContract
from locvlm.coords.lab import as_table, measure, size_class, summarise
from locvlm.geometry import Box, iou
from locvlm.records import ImageAnnotation, ObjectAnnotation


def picture(*boxes, crowd=()):
    objects = [ObjectAnnotation(category="cat", box_px=box) for box in boxes]
    objects += [ObjectAnnotation(category="cat", box_px=box, is_crowd=True) for box in crowd]
    return ImageAnnotation(image_id="1", image="1.jpg", width=448, height=224, objects=tuple(objects))


def test_size_classes_change_at_the_side_lengths_of_coco():
    assert [size_class(Box(0, 0, s, s)) for s in (31.9, 32, 95.9, 96)] == [
        "small",
        "medium",
        "medium",
        "large",
    ]


def test_a_box_between_two_bins_is_measured_by_hand():
    contract = CoordinateContract(canvas=224, patch=14)  # ivb; one bin is 2 source pixels across, 1 down
    box = Box(11, 10, 41, 40)  # x: bins 5.5 and 20.5, written 6 and 20
    measured = measure([picture(box, crowd=[box])], contract, count_tokens=len)
    assert measured.error_px == pytest.approx([1.0])
    assert measured.error_fraction == pytest.approx([0.5 / 224])
    assert measured.tokens == [len("(6, 10, 20, 40)")]
    assert measured.iou == {
        "small": [pytest.approx(iou(box, Box(12, 10, 40, 40)))],
        "medium": [],
        "large": [],
    }


def test_a_crop_counts_what_it_hides_and_lowers_the_ceiling_not_the_error():
    contract = CoordinateContract(frame="crop", canvas=224, patch=14)  # shows x in [112, 336]
    measured = measure([picture(Box(0, 0, 100, 100), Box(102, 0, 122, 10))], contract, count_tokens=len)
    assert measured.num_invisible == 1
    assert measured.error_px == pytest.approx([0.0], abs=1e-9)
    assert measured.iou["small"] == pytest.approx([0.5])


@pytest.mark.parametrize("codec", ["nfp", "ivb", "diga"])
@pytest.mark.parametrize("location", ["bbox", "point"])
def test_summaries_stay_within_the_stated_bound_and_make_a_row(codec, location):
    contract = CoordinateContract(codec=codec, location=location, canvas=224, patch=14)
    boxes = [Box(3.3 * i, 2.1 * i, 7.7 * i + 1, 5.9 * i + 1) for i in range(37)]
    summary = summarise(measure([picture(*boxes)], contract, count_tokens=len))
    stated = contract.build_codec().max_error
    assert 0 < summary["error_fraction"]["max"] <= stated + 1e-9
    assert (
        summary["iou"]["small"] is None or summary["iou"]["small"]["min"] <= summary["iou"]["small"]["mean"]
    )
    row = {"codec": codec, "location": location, "max_error": stated, **summary}
    lines = as_table([row]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(f"| {codec} | {location} |")


def test_nothing_to_measure_is_none_not_zero():
    summary = summarise(measure([], CoordinateContract(canvas=224, patch=14), count_tokens=len))
    assert summary["error_px"] is None
    assert summary["iou"]["all"] is None
