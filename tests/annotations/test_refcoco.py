"""Referring expressions in every form: what comes out, alike for all of them, and what is refused."""

import json
import os
import pickle
from collections import Counter

import pytest

from locvlm.annotations.refcoco import EMPTY, REPEATED, read_refcoco, read_splits
from locvlm.geometry import Box
from locvlm.io import Ledger

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "brush"}]  # gaps
IMAGES = [
    {"id": 581857, "file_name": "COCO_train2014_000000581857.jpg", "width": 640, "height": 427},
    {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 100, "height": 80},
    {"id": 30, "file_name": "COCO_train2014_000000000030.jpg", "width": 50, "height": 50},
]
ANNOTATIONS = [
    {
        "id": 1719310,
        "image_id": 581857,
        "category_id": 1,
        "bbox": [103.93, 300.5, 134.22, 100.25],
        "iscrowd": 0,
    },
    {"id": 18, "image_id": 581857, "category_id": 18, "bbox": [300, 20, 30, 40], "iscrowd": 0},
    {"id": 7, "image_id": 9, "category_id": 90, "bbox": [10, 10, 20, 30], "iscrowd": 0},
    {"id": 8, "image_id": 9, "category_id": 1, "bbox": [0, 0, 90, 70], "iscrowd": 1},
]


def ref(ref_id, ann_id, image_id, split, *sents):
    """An entry of UNC's list, all its fields there."""
    category_id = next((a["category_id"] for a in ANNOTATIONS if a["id"] == ann_id), 1)
    sentences = [
        {"sent": s, "raw": s.upper(), "tokens": s.split(), "sent_id": 10 * ref_id + k}
        for k, s in enumerate(sents)
    ]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": category_id,
        "split": split,
        "sentences": sentences,
        "sent_ids": [s["sent_id"] for s in sentences],
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
    }


REFS = [
    ref(
        0, 1719310, 581857, "train", "the lady with the blue shirt", "lady  w back to us", "lady w back to us"
    ),
    ref(1, 7, 9, "testA", "café brush"),
    ref(2, 18, 581857, "train", "the dog", " "),
]
TRAIN = [item for item in REFS if item["split"] == "train"]


def mdetr(refs):
    """The refs in MDETR's form."""
    by_id, images, annotations = {a["id"]: a for a in ANNOTATIONS}, [], []
    sizes = {image["id"]: image for image in IMAGES}
    for item in refs:
        for sentence in item["sentences"]:
            number, annotation = len(images), by_id[item["ann_id"]]
            images.append(
                sizes[item["image_id"]]
                | {"id": number, "original_id": item["image_id"], "caption": sentence["sent"]}
                | {"dataset_name": "refcoco", "tokens_negative": [[0, 3]]}
            )
            annotations.append(
                annotation | {"image_id": number, "id": number, "original_id": item["ann_id"], "area": 3.5}
            )
    return {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
    }


def rows(refs):
    """The refs as a list of rows; the number in img_id is none of COCO's."""
    by_id, sizes = {a["id"]: a for a in ANNOTATIONS}, {image["id"]: image for image in IMAGES}
    return [
        {
            "img_id": f"COCO_train2014_{item['image_id']:012d}_{item['ref_id']}",
            "sents": sentence["sent"],
            "bbox": by_id[item["ann_id"]]["bbox"],
            "height": sizes[item["image_id"]]["height"],
            "width": sizes[item["image_id"]]["width"],
        }
        for item in refs
        for sentence in item["sentences"]
    ]


@pytest.fixture
def save(tmp_path):
    """save(value) -> a JSON file with it; bytes are written as they are."""

    def write(value, name="refs.json"):
        path = tmp_path / name
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return path

    return write


@pytest.fixture
def instances(save):
    return save({"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES}, "instances.json")


def read(path, **options):
    return list(read_refcoco(path, ledger=options.pop("ledger", Ledger()), **options))


def phrases(images):
    """{image id: {annotation id: phrases}}."""
    return {i.image_id: {o.annotation_id: o.phrases for o in i.objects} for i in images}


# ---- forms


LADY = ("the lady with the blue shirt", "lady w back to us")


def test_refs_with_instances_give_every_object_of_the_image_and_phrases_to_those_referred_to(save, instances):
    ledger, annotations, repairs = Ledger(), Ledger(), Counter()
    path = save(pickle.dumps(REFS, protocol=2), "refs(unc).p")
    images = read(path, instances=instances, ledger=ledger, instances_ledger=annotations, repairs=repairs)
    assert phrases(images) == {
        "581857": {"1719310": LADY, "18": ("the dog",)},
        "9": {"7": ("café brush",), "8": ()},
    }  # and not image 30, about which nothing is said
    first, second = images
    assert (first.image, first.width, first.height) == ("COCO_train2014_000000581857.jpg", 640, 427)
    assert first.objects[0].box_px == pytest.approx(Box(103.93, 300.5, 238.15, 400.75))
    assert [item.category for item in first.objects] == ["person", "dog"]
    assert [(item.category, item.is_crowd) for item in second.objects] == [("brush", False), ("person", True)]
    assert (ledger.num_kept, ledger.num_dropped) == (3, 0)
    assert annotations.num_kept == 4
    assert repairs == {EMPTY: 1, REPEATED: 1}


def test_what_two_people_said_of_an_object_is_there_twice_if_asked_for(save, instances):
    repairs = Counter()
    path = save(pickle.dumps(REFS, protocol=2), "refs(unc).p")
    images = read(path, instances=instances, repairs=repairs, keep_repeated=True)
    assert phrases(images)["581857"] == {"1719310": (*LADY, LADY[1]), "18": ("the dog",)}
    assert repairs == {EMPTY: 1}


@pytest.mark.parametrize("form", [lambda refs: refs, mdetr, rows], ids=["refs", "mdetr", "rows"])
def test_every_form_gives_the_same_images_with_instances(form, save, instances):
    expected = read(save(pickle.dumps(TRAIN), "refs.p"), instances=instances)
    assert phrases(expected) == {"581857": {"1719310": LADY, "18": ("the dog",)}}
    assert read(save(form(TRAIN)), instances=instances) == expected


def test_mdetrs_form_holds_what_is_needed_but_the_other_objects(save, instances):
    with_instances = read(save(mdetr(REFS)), instances=instances)
    alone = read(save(mdetr(REFS)))
    assert alone[0] == with_instances[0]
    assert phrases(alone)["9"] == {"7": ("café brush",)}


def test_rows_alone_have_names_of_their_own_and_no_category(save):
    (image,) = read(save(rows(TRAIN)))
    assert (image.image_id, image.image) == ("581857", "COCO_train2014_000000581857.jpg")
    lady, dog = image.objects
    assert (lady.annotation_id, lady.category, lady.phrases) == ("COCO_train2014_000000581857_0", "", LADY)
    assert dog.box_px == Box(300, 20, 330, 60)


def test_a_row_may_hold_several_sentences(save):
    row = rows(TRAIN)[0] | {"sents": ["one", "two", "one"]}
    assert read(save([row]))[0].objects[0].phrases == ("one", "two")


def test_the_real_sample_is_read_whole(shared_data):
    ledger, repairs = Ledger(), Counter()
    path = shared_data / "refcoco" / "refcocog_val_sample.json"
    images = read(path, ledger=ledger, repairs=repairs)
    objects = [item for image in images for item in image.objects]
    assert (len(images), len(objects), ledger.num_kept, ledger.num_dropped) == (188, 213, 213, 0)
    assert sum(len(item.phrases) for item in objects) == 399  # of 400 rows, one says the same twice
    assert repairs == {REPEATED: 1}
    assert images[0].objects[0].box_px == pytest.approx(Box(285.04, 23.29, 424.78, 146.4))
    assert read_splits(path) == ()


# ---- splits


def test_a_split_is_one_of_those_that_the_file_names(save, instances):
    path = save(REFS)
    assert read_splits(path) == ("train", "testA")
    assert list(phrases(read(path, instances=instances, split="testA"))) == ["9"]
    with pytest.raises(ValueError, match=r"has no split 'test'; it has train, testA$"):
        read(path, instances=instances, split="test")


def test_a_file_that_names_no_split_cannot_be_asked_for_one(save):
    with pytest.raises(
        ValueError, match=r"does not say which split .* pass the file of that split, and no split"
    ):
        read(save(mdetr(TRAIN)), split="train")


# ---- pickles


def python2_pickle(value, *, encoding, opcode):
    """What Python 2 writes: its text is 8-bit, by protocol 0 ("S", quoted) or 1 and 2 ("U", counted)."""

    def dump(item):
        if isinstance(item, list):
            return b"(" + b"".join(map(dump, item)) + b"l"
        if isinstance(item, dict):
            return b"(" + b"".join(dump(k) + dump(v) for k, v in item.items()) + b"d"
        if isinstance(item, int):
            return b"I%d\n" % item
        text = item.encode(encoding)
        if opcode == "U":
            return b"U" + bytes([len(text)]) + text
        return b"S'" + text.decode("latin-1").encode("unicode_escape").replace(b"'", b"\\'") + b"'\n"

    return (b"\x80\x02" if opcode == "U" else b"") + dump(value) + b"."


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("opcode", ["S", "U"])
def test_the_text_of_python_2_is_read_whatever_its_encoding(save, instances, opcode, encoding):
    path = save(python2_pickle(REFS, encoding=encoding, opcode=opcode), "refs.p")
    assert read(path, instances=instances) == read(save(REFS), instances=instances)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(save, instances, protocol):
    path = save(pickle.dumps(REFS, protocol=protocol), "refs.p")
    assert read(path, instances=instances) == read(save(REFS), instances=instances)


class Touch:
    """Makes a file while it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_program_is_refused_without_running_it(save, instances, tmp_path, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps([REFS[0] | {"split": Touch(marker)}], protocol=protocol)
    path = save(content, "refs.p")
    with pytest.raises(ValueError, match=r"asks for posix\.system, .* download it again"):
        read(path, instances=instances)
    assert not marker.exists()
    pickle.loads(content)  # what anybody else's reader would do
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(S'touch marker'\nios\nsystem\n.", "os.system"),  # INST, as Python 2 wrote instances
        (pickle.dumps(Counter("a")), "collections.Counter"),
        (pickle.dumps([range(3)]), "builtins.range"),
        (b"Pimages\n.", "persistent id 'images'"),
    ],
)
def test_nothing_else_that_has_a_name_is_made_either(save, content, name):
    with pytest.raises(ValueError, match=f"asks for .*{name}"):
        read(save(content, "refs.p"))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_is_cut_off_is_refused_wherever_it_is_cut(save, protocol):
    content = pickle.dumps(REFS[:1], protocol=protocol)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"neither JSON nor a whole pickle .* download it again"):
            read(save(content[:length], "refs.p"))


# ---- what is dropped, and counted


def test_unusable_boxes_and_referents_without_a_sentence_are_dropped_by_reason(save):
    entry = rows(REFS)[0]
    boxes = [
        [float("nan"), 1, 2, 3],
        [1, 2, 3],
        [5, 5, 0, 9],
        [700, 5, 10, 10],
        [600, 400, 60, 60],
        [1, 1, 9, 9],
    ]
    value = [
        entry | {"bbox": box, "img_id": f"COCO_train2014_000000581857_{k}"} for k, box in enumerate(boxes)
    ]
    value[-1]["sents"] = "  "
    ledger, repairs = Ledger(), Counter()
    (image,) = read(save(value), ledger=ledger, repairs=repairs)
    assert [item.box_px for item in image.objects] == [Box(600, 400, 640, 427)]
    assert ledger.num_kept == 1
    assert ledger.dropped == {
        "bbox is not four finite numbers": 2,
        "box without area": 1,
        "box outside the image": 1,
        "no sentence but empty ones": 1,
    }
    assert repairs == {"box clipped to the image": 1}


def test_refs_whose_annotation_is_not_in_the_instances_are_dropped_and_named(save, instances):
    ledger = Ledger()
    path = save([*REFS, ref(3, 4711, 9, "train", "the cat")])
    assert phrases(read(path, instances=instances, ledger=ledger))["9"] == {"7": ("café brush",), "8": ()}
    assert ledger.num_kept == 3
    (reason,) = ledger.examples
    assert reason == "no usable annotation in the instances"
    assert "refs[3] (4711 in image 9)" in ledger.examples[reason][0]


def test_rows_whose_box_is_not_in_the_instances_are_dropped(save, instances):
    ledger = Ledger()
    moved = [row | {"bbox": [20, 20, 30, 40]} for row in rows(REFS)]
    assert read(save(moved), instances=instances, ledger=ledger) == []
    assert ledger.dropped == {"no usable annotation in the instances": 3}


# ---- what is refused


def test_refs_need_instances_and_say_which(save):
    with pytest.raises(ValueError, match=r"refs\[0\]: UNC's refs hold no boxes; pass the instances\.json"):
        read(save(REFS))


def test_images_that_are_not_in_the_instances_stop(save, instances):
    path = save([*REFS, ref(3, 7, 4711, "train", "the cat"), ref(4, 7, 4712, "train", "the cat")])
    with pytest.raises(
        ValueError, match=r"refs\[3\]: image 4711 and 1 others are not among .* pass the instances"
    ):
        read(path, instances=instances)


@pytest.mark.parametrize("form", [mdetr, rows])
def test_images_without_size_stop_and_can_be_had_from_instances(form, save, instances):
    value = form(TRAIN)
    for entry in value["images"] if isinstance(value, dict) else value:
        del entry["width"]
    with pytest.raises(ValueError, match="width and height of the image in pixels are needed, got None; add"):
        read(save(value))
    assert read(save(value), instances=instances) == read(save(TRAIN), instances=instances)


def test_entries_that_disagree_about_an_image_stop(save):
    value = rows(TRAIN)
    value[-1]["width"] = 641
    with pytest.raises(
        ValueError, match=r"image 581857 is .* of \(641, 427\) here, and .* of \(640, 427\) at"
    ):
        read(save(value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"images": IMAGES, "annotations": [{"id": 1, "image_id": 9, "caption": "a dog"}]},
            "an object that holds images, annotations, and images with the fields id, file_name",
        ),
        (
            {"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES},
            "an object that holds images, annotations, categories, and images with",
        ),
        ([{"id": "1", "conversations": []}], "a list of entries with the fields conversations, id"),
        ([], "a list of no entries"),
        ({}, "an object that holds nothing"),
    ],
    ids=["captions", "instances", "llava", "empty list", "empty object"],
)
def test_another_kind_of_file_is_refused_with_what_was_found_and_what_is_expected(save, value, message):
    with pytest.raises(ValueError, match=f"expected UNC's refs .*, MDETR's JSON .*; found {message}"):
        read(save(value))


def test_a_pickle_of_something_else_is_refused(save):
    with pytest.raises(ValueError, match=r"found str$"):
        read(save(pickle.dumps("refs"), "refs.p"))
    with pytest.raises(ValueError, match="neither JSON nor a whole pickle"):
        read(save(b"<!DOCTYPE html><html>Not found</html>", "refs.p"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ann_id": "7"}, r"Expected `int`, got `str` - at `\$\[0\]\.ann_id`; repair that entry"),
        ({"sentences": [{"raw": "x"}]}, r"missing required field `sent` - at `\$\[0\]\.sentences\[0\]`"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(save, instances, change, message):
    with pytest.raises(ValueError, match=message):
        read(save([REFS[0] | change]), instances=instances)


def test_a_name_without_a_number_for_the_object_is_refused(save):
    value = [rows(TRAIN)[0] | {"img_id": "COCO_train2014_000000581857"}]
    with pytest.raises(ValueError, match="row 0: img_id must be the name of an image and a number"):
        read(save(value))


def category_gap(data):
    data["annotations"][1]["category_id"] = 2


def second_annotation(data):
    data["annotations"][1]["image_id"] = 0


def lost_annotation(data):
    del data["annotations"][1]


def lost_image(data):
    del data["images"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (category_gap, r"annotations\[1\]: category_id 2 is not among the categories"),
        (second_annotation, r"annotations\[1\]: image entry 0 has a second annotation"),
        (lost_annotation, r"images\[1\]: no annotation has its id 1"),
        (lost_image, "image_id 1 of an annotation is not among the images"),
    ],
)
def test_mdetrs_sections_have_to_fit_each_other(save, change, message):
    data = json.loads(json.dumps(mdetr(TRAIN)))
    change(data)
    with pytest.raises(ValueError, match=message):
        read(save(data))
