import pytest

from locvlm.annotations.descriptions import add_descriptions
from locvlm.geometry import Box
from locvlm.io import Ledger, write_records
from locvlm.records import ImageAnnotation, ObjectAnnotation, Query, Record

DOG, CAT = Box(1, 2, 11.5, 12.25), Box(20, 20, 30, 30)


def image_of(image_id, *boxes):
    objects = tuple(ObjectAnnotation(category=name, box_px=box) for name, box in boxes)
    return ImageAnnotation(image_id=image_id, image=f"{image_id}.jpg", width=64, height=48, objects=objects)


def described(record_id, *queries, **source):
    return Record(
        id=record_id,
        image="a.jpg",
        width=64,
        height=48,
        queries=tuple(
            Query(objective=objective, phrase=phrase, category=category, box_px=box)
            for objective, phrase, category, box in queries
        ),
        source=source,
    )


@pytest.fixture
def file_of(tmp_path):
    def write(*records):
        write_records(tmp_path / "descriptions.jsonl", records)
        return tmp_path / "descriptions.jsonl"

    return write


def test_objects_get_their_descriptions_by_image_class_and_box(file_of):
    path = file_of(
        described(
            "9",
            ("revloc", " a wet\tdog ", "dog", DOG),
            ("revloc", "a dog, wet", "dog", DOG),
            ("revloc", "a wet dog", "dog", DOG),
            ("locpred", "not this", "cat", CAT),
        ),
        described("prefcoco-25", ("revloc", "the cat", "cat", CAT), image_id=25),
        described("7", ("revloc", "of an image that is not read", "dog", DOG)),
    )
    images = [
        image_of("9", ("dog", DOG), ("cat", CAT)),
        image_of("25", ("dog", CAT), ("cat", CAT)),
        image_of("1"),
    ]
    ledger = Ledger()
    first, second, third = add_descriptions(images, path, ledger)
    assert [item.phrases for item in first.objects] == [("a wet dog", "a dog, wet"), ()]
    assert [item.phrases for item in second.objects] == [(), ("the cat",)]
    assert third == images[2]
    assert (ledger.num_kept, ledger.num_dropped) == (2, 0)


def test_a_description_of_no_object_is_counted(file_of):
    path = file_of(described("9", ("revloc", "a dog", "dog", DOG), ("revloc", "a cat", "cat", DOG)))
    ledger = Ledger()
    (image,) = add_descriptions([image_of("9", ("dog", DOG))], path, ledger)
    assert image.objects[0].phrases == ("a dog",)
    assert dict(ledger.dropped) == {"no object of this class and box": 1}


def test_descriptions_of_other_images_are_refused(file_of):
    path = file_of(described("9", ("revloc", "a dog", "dog", DOG)))
    with pytest.raises(
        ValueError, match="describes none of the 1 images; expected the output of data_builders"
    ):
        add_descriptions([image_of("10", ("dog", DOG))], path, Ledger())
