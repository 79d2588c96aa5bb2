"""Images of evaluations are known under their other names; files that are equal, or missing, are found."""

import json
import pickle
import zipfile

import pytest

from locvlm.annotations.image_names import read_visual_genome
from locvlm.building.auditing.images import (
    find_copies,
    find_leaks,
    read_evaluation_keys,
    read_evaluations,
    require_image_root,
)

REF = {"ann_id": 1, "ref_id": 1, "category_id": 1, "sentences": [{"sent": "left dog"}]}
REFS = [
    {**REF, "image_id": image, "split": split, "file_name": f"COCO_train2014_{image:012d}_1.jpg"}
    for image, split in ((9, "train"), (42, "val"), (43, "testA"))
]
ROWS = [
    {
        "img_id": f"COCO_train2014_{image:012d}_16",
        "sents": ["left dog"],
        "bbox": [1, 2, 30, 40],
        "width": 100,
        "height": 80,
    }
    for image in (42, 43)
]
POPE = [
    {"question_id": k, "image": f"COCO_val2014_{k:012d}.jpg", "text": "?", "label": "no"} for k in (42, 43)
]
FORMS = {
    "vqav2": {"questions": [{"image_id": k, "question": "?", "question_id": 10 * k} for k in (42, 43)]},
    "refs": REFS,
    "rows": ROWS,
    "coco": {"images": [{"id": k, "file_name": f"{k:012d}.jpg"} for k in (42, 43)], "annotations": []},
    "llava": [{"id": "a", "image": f"coco/train2017/{k:012d}.jpg", "conversations": []} for k in (42, 43)],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_images_of_every_form_are_read_and_those_of_a_training_split_left_out(tmp_path, form):
    path = tmp_path / "evaluation"
    path.write_text(json.dumps(FORMS[form]))
    assert read_evaluation_keys(path) == {"coco 42", "coco 43"}


def test_pope_lists_and_pickles_are_read(tmp_path):
    pope, names, refs = tmp_path / "pope.json", tmp_path / "names.txt", tmp_path / "refs(unc).p"
    pope.write_text("\n".join(map(json.dumps, POPE)))
    names.write_text("val2014/COCO_val2014_000000000042.jpg\n000000000043.jpg\n")
    refs.write_bytes(pickle.dumps(REFS))
    for path in (pope, names, refs):
        assert read_evaluation_keys(path) == {"coco 42", "coco 43"}


def test_gqa_names_images_of_visual_genome(tmp_path):
    path = tmp_path / "testdev.json"
    path.write_text(json.dumps({"q1": {"imageId": "n161313", "question": "?"}, "q2": {"imageId": "2370799"}}))
    assert read_evaluation_keys(path) == {"n161313", "2370799"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no image"),
        ("[]", "names no image"),
        ("{}", "names no image"),
        (
            "000000.jpg\n000017.jpg\n",
            "names no image that can be known again in another set; it names 000000",
        ),
        (json.dumps([row for row in REFS if row["split"] == "train"]), "names no image"),
        ('{"questions": [{"image_id": "a"}]}', "names no image"),
        ('{"image": 3}', "expected a COCO file"),
    ],
)
def test_an_evaluation_that_names_nothing_is_refused(tmp_path, content, message):
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_evaluation_keys(path)
    assert str(path) in str(error.value)


def test_an_evaluation_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*gone\.json; --evaluation takes"):
        read_evaluation_keys(tmp_path / "gone.json")


def test_files_go_by_their_name_unless_two_have_one(tmp_path):
    paths = [tmp_path / "a" / "val.txt", tmp_path / "b" / "val.txt", tmp_path / "test.txt"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("dog.jpg\n")
    assert list(read_evaluations(paths)) == [str(paths[0]), str(paths[1]), "test.txt"]


def test_leaks_are_found_under_both_of_cocos_names_and_through_visual_genome(tmp_path):
    (tmp_path / "image_data.json").write_text(json.dumps([{"image_id": 2370799, "coco_id": 42}]))
    genome = read_visual_genome(tmp_path / "image_data.json")
    evaluations = {"pope": frozenset({"coco 42", "coco 43"}), "gqa": frozenset({"2370799", "n161313"})}
    ours = ["coco 42", "coco 44", "n161313", "place/000017.jpg", "video/v_1.mp4"]

    def found(genome=None):
        return [(leak.file, leak.num_images, leak.shared) for leak in find_leaks(ours, evaluations, genome)]

    assert found() == [("pope", 2, ("coco 42",)), ("gqa", 2, ("n161313",))]
    assert found(genome) == [("pope", 2, ("coco 42",)), ("gqa", 2, ("coco 42", "n161313"))]


@pytest.fixture
def images(tmp_path):
    """Files a, b = a, c as long and with the same end, d = a, in a folder."""
    root = tmp_path / "images"
    root.mkdir()
    one, other = bytes(9000), b"\1" + bytes(8999)
    for name, data in (("a.jpg", one), ("b.jpg", one), ("c.jpg", other), ("d.jpg", one)):
        (root / name).write_bytes(data)
    return root


def test_copies_are_equal_byte_for_byte_and_the_rest_is_missing(images):
    (images.parent / "secret.jpg").write_bytes(bytes(9000))
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "gone.jpg", "../secret.jpg"]
    found = find_copies(images, names)
    assert found.copies == (("b.jpg", "a.jpg"), ("d.jpg", "a.jpg"))
    assert found.missing == ("gone.jpg", "../secret.jpg")
    assert found.num_files == 4


def test_images_in_a_zip_are_found_as_those_in_a_folder(images, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(images.iterdir()):
            archive.write(path, path.name)
    names = ["a.jpg", "b.jpg", "c.jpg", "gone.jpg"]
    require_image_root(tmp_path / "images.zip")
    assert find_copies(tmp_path / "images.zip", names) == find_copies(images, names)


def test_a_root_that_is_not_there_is_named(images, tmp_path):
    require_image_root(images)
    for name in ("gone", "gone.zip", "images/a.jpg"):
        with pytest.raises(ValueError, match=name):
            require_image_root(tmp_path / name)


def test_the_real_files_of_evaluations_are_read(shared_data):
    files = {
        "pope/coco_pope_random.json": 20,
        "refcoco/refcocog_val_sample.json": 188,
        "vqa_gqa/vqav2_questions.json": 1,
        "vqa_gqa/gqa_questions_a.json": 1,
        "vsr/random_dev.jsonl": None,
        "coco/annotations/instances_val2017.json": 44,
    }
    for name, count in files.items():
        keys = read_evaluation_keys(shared_data / name)
        assert keys
        assert count in (None, len(keys))
