"""What every builder that reads a COCO file does about one that is not as it should be."""

import json
import re

import pytest

from locvlm.io import read_records

# builder, arguments beside --instances and --out, what it writes
BUILDERS = {
    "localize_instruct": ([], "out.jsonl"),
    "coco_spatial": ([], "coco_spatial_direct_horizontal.jsonl"),
    "hallucination coco": ([], "out.jsonl"),
    "hallucination pope": (["--setting", "popular", "--images", "8"], "out.jsonl"),
}
every_builder = pytest.mark.parametrize("name", BUILDERS)
COUNTER = {"prefcoco": (["--count-only"], "out.jsonl")}  # writes nothing


@pytest.fixture
def build(program, instances, tmp_path):
    """build(name, change, folder, *more): runs the builder on the instances changed; what it writes."""

    def run(name, change, folder="out", *more):
        data = json.loads(instances.read_text())
        changed = change(data)
        path = tmp_path / f"{folder}.json"
        path.write_text(json.dumps(data if changed is None else changed))
        script, *command = name.split()
        arguments, written = {**BUILDERS, **COUNTER}[name]
        out = tmp_path / folder / ("" if script == "coco_spatial" else written)
        program(f"data_builders/{script}.py", *command, "--instances", path, *arguments, "--out", out, *more)
        return tmp_path / folder / written

    return run


def refuses(build, tmp_path, name, change):
    """What it says; nothing is left."""
    with pytest.raises((ValueError, SystemExit)) as refused:
        build(name, change)
    assert not list((tmp_path / "out").glob("*"))
    return str(refused.value)


def captions(data):
    return {
        "images": data["images"],
        "annotations": [{"id": 1, "image_id": 0, "caption": "A dog beside a cat."}],
    }


def captions_with_categories(data):
    return {**captions(data), "categories": data["categories"]}


def a_list(data):
    return data["annotations"]


def image_that_is_missing(data):
    data["annotations"][5]["image_id"] = 77


def category_that_is_missing(data):
    data["annotations"][5]["category_id"] = 77


@pytest.mark.parametrize("name", [*BUILDERS, *COUNTER])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (captions, "expected a COCO file with a list of 'categories'"),
        (captions_with_categories, "expected an instances file, got one"),
        (a_list, "expected a COCO file"),
        (image_that_is_missing, "annotations[5]: image_id 77 is not"),
        (category_that_is_missing, "annotations[5]: category_id 77 is"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_a_file_of_another_kind_or_with_holes_is_refused_and_nothing_written(
    build, tmp_path, name, change, message
):
    said = refuses(build, tmp_path, name, change)
    assert message in said
    assert "out.json" in said


@every_builder
def test_gaps_between_category_ids_change_nothing(build, name):
    def with_gaps(data):
        for category in data["categories"]:
            category["id"] = 10 * category["id"] + 3
        for annotation in data["annotations"]:
            annotation["category_id"] = 10 * annotation["category_id"] + 3

    assert build(name, with_gaps, "gaps").read_bytes() == build(name, lambda data: None).read_bytes()


@every_builder
def test_masks_of_either_form_change_nothing(build, name):
    def with_masks(data):
        for number, annotation in enumerate(data["annotations"]):
            polygon = [[5, 5, 25, 5, 25, 25.5]]
            counts = ["a:]NaN,b", [0, 400, 7600]][number % 2]  # compressed, and not
            annotation["segmentation"] = polygon if number % 3 else {"counts": counts, "size": [80, 100]}

    assert build(name, with_masks, "masks").read_bytes() == build(name, lambda data: None).read_bytes()


@every_builder
@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([5, 5, float("nan"), 20], "bbox is not four finite numbers"),
        ([float("-inf"), 5, 20, 20], "bbox is not four finite numbers"),
        ([5, 5, -20, 20], "box without area"),
        ([5, 5, 20, 0], "box without area"),
        ([5, 5, 20], "bbox is not four finite numbers"),
    ],
    ids=["NaN", "infinite", "negative", "flat", "three numbers"],
)
def test_a_box_that_is_none_is_counted_and_stops_the_build_over_the_limit(
    build, tmp_path, name, bbox, reason
):
    def with_fault(data):
        data["annotations"][5]["bbox"] = bbox

    said = refuses(build, tmp_path, name, with_fault)
    assert "dropped 1 of 40" in said
    written = build(name, with_fault, "faulty", "--max-dropped-fraction", "0.2")
    assert list(read_records(written))
    assert not {"NaN", "Infinity"} & set(re.findall(r"\w+", written.read_text()))
    manifest = json.loads(written.with_name(f"{written.name}.manifest.json").read_text())
    (ledger,) = [ledger for ledger in manifest["input_ledgers"] if ledger["name"] == "annotations"]
    assert {why: drops["count"] for why, drops in ledger["reasons"].items()} == {reason: 1}
