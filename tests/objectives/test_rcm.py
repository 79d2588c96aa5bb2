from collections import Counter

import pytest

from locvlm.annotations.refcoco import read_refcoco
from locvlm.geometry import Box
from locvlm.io import Ledger, record_from_json, record_to_json
from locvlm.objectives.rcm import (
    CELLS,
    build_rcm_records,
    cell_of,
    expressions_of,
    select,
    wrong_cells,
)
from locvlm.records import ImageAnnotation, ObjectAnnotation

NINE = range(len(CELLS))


def images_with(counts):
    """An image of 300 x 600 for every object; counts[cell] objects in each cell, with a phrase each."""
    images = []
    for cell, count in enumerate(counts):
        x, y = 100 * (cell % 3) + 50, 200 * (cell // 3) + 100
        for number in range(count):
            item = ObjectAnnotation(
                category="dog",
                box_px=Box(x - 40, y - 90, x + 40, y + 90),
                annotation_id="5",
                phrases=(f"the {CELLS[cell]} dog {number}",),
            )
            name = f"{cell}{number:03d}"
            images.append(
                ImageAnnotation(image_id=name, image=f"{name}.jpg", width=300, height=600, objects=(item,))
            )
    return images


def items_of(images, *, seed=0, negatives="same"):
    expressions = list(expressions_of(images))
    return build_rcm_records(expressions, select(expressions, seed=seed, negatives=negatives), split="val")


def answers(records):
    return Counter(record.queries[0].answer for record in records)


# ---- cells


@pytest.mark.parametrize(
    ("center", "cell"),
    [
        ((50, 50), "top left"),
        ((150, 50), "top middle"),
        ((299, 1), "top right"),
        ((1, 300), "middle left"),
        ((150, 300), "middle"),
        ((250, 300), "middle right"),
        ((99, 401), "bottom left"),
        ((101, 599), "bottom middle"),
        ((201, 401), "bottom right"),
        ((100, 200), "middle"),  # on a border: the cell to the right, and below
        ((200, 400), "bottom right"),
        ((99.99, 199.99), "top left"),
    ],
)
def test_the_cell_is_the_one_that_holds_the_centre(center, cell):
    x, y = center
    assert CELLS[cell_of(Box(x - 1, y - 1, x + 1, y + 1), 300, 600)] == cell


# ---- N_i / 8


@pytest.mark.parametrize(
    "num", [1, 7, 8, 9, 165, 307]
)  # the last two are those of the published val and test
def test_every_other_cell_is_said_an_eighth_rounded_so_that_all_sums_are_exact(num):
    said = {true: Counter(wrong_cells(true, num, seed=3)) for true in NINE}
    whole, rest = divmod(num, 8)
    for true in NINE:
        others = [said[true][cell] for cell in NINE if cell != true]
        assert said[true][true] == 0
        assert sorted(others) == [whole] * (8 - rest) + [whole + 1] * rest
        assert sum(others) == num  # objects of this cell in negatives
        assert sum(said[other][true] for other in NINE) == num  # negatives that say this cell


def test_which_cells_are_said_once_more_is_drawn():
    drawn = {tuple(wrong_cells(0, 4, seed=seed)) for seed in range(20)}
    assert len(drawn) > 10


def test_the_sizes_on_real_data_are_those_of_the_paper():
    # 18 items for each expression of the rarest cell: 165 on val, 307 on test
    for num, expected in ((165, 2970), (307, 5526)):
        assert len(items_of(images_with([num + cell for cell in NINE]))) == expected


# ---- balance


@pytest.mark.parametrize("negatives", ["same", "other"])
@pytest.mark.parametrize("rarest", [1, 5, 8, 13])
def test_labels_said_cells_and_true_cells_are_balanced_exactly(rarest, negatives):
    records = items_of(images_with([rarest + 3 * (cell % 4) for cell in NINE]), negatives=negatives)
    assert answers(records) == {"yes": 9 * rarest, "no": 9 * rarest}
    for name in ("cell", "true_cell"):
        counts = Counter((record.source[name], record.queries[0].answer) for record in records)
        assert counts == {(cell, answer): rarest for cell in CELLS for answer in ("yes", "no")}
    for record in records:
        is_right = record.source["cell"] == record.source["true_cell"]
        assert record.source["label"] is is_right
        assert record.queries[0].answer == ("yes" if is_right else "no")


def test_every_phrase_is_there_once_with_yes_and_once_with_no():
    records = items_of(images_with([4 + cell for cell in NINE]))
    by_expression = Counter((record.source["expression_id"], record.queries[0].answer) for record in records)
    assert set(by_expression.values()) == {1}
    assert len(by_expression) == 2 * len({name for name, _ in by_expression}) == 72


def test_other_negatives_have_phrases_of_their_own_as_far_as_there_are_enough():
    counts = [4, 8, 6, *[20] * 6]
    records = items_of(images_with(counts), negatives="other")
    times = Counter((record.source["true_cell"], record.source["expression_id"]) for record in records)
    both = Counter(true_cell for (true_cell, _), number in times.items() if number == 2)
    # 4 positives and 4 negatives of each cell: from 4, 8 and 6 expressions, 4, 0 and 2 have to be both
    assert both == {"top left": 4, "top right": 2}
    with pytest.raises(ValueError, match="negatives must be one of same, other, got 'all'"):
        items_of(images_with(counts), negatives="all")


def test_a_cell_without_an_expression_stops_with_the_counts():
    with pytest.raises(
        ValueError, match=r"every cell needs at least one .*'bottom right': 0}: give more images"
    ):
        items_of(images_with([3] * 8 + [0]))


# ---- draws


def test_draws_depend_on_seed_and_ids_and_not_on_order():
    images = images_with([5 + cell for cell in NINE])
    one, turned = items_of(images), items_of(images[::-1])
    assert {record.id: record for record in one} == {record.id: record for record in turned}
    assert [record.id for record in one] != [record.id for record in turned]  # output follows the input
    assert {record.id for record in one} != {record.id for record in items_of(images, seed=1)}


def test_every_phrase_of_an_object_is_an_expression_of_its_own():
    box = Box(0, 0, 30, 30)
    image = ImageAnnotation(
        image_id="9",
        image="9.jpg",
        width=300,
        height=600,
        objects=(
            ObjectAnnotation(category="dog", box_px=box, annotation_id="7", phrases=("a dog", "the dog")),
            ObjectAnnotation(category="cat", box_px=box, annotation_id="8"),
        ),
    )
    found = [(item.id, item.phrase, item.cell) for item in expressions_of([image])]
    assert found == [("9-7-0", "a dog", 0), ("9-7-1", "the dog", 0)]


def test_objects_that_cannot_be_told_apart_stop():
    item = ObjectAnnotation(category="dog", box_px=Box(0, 0, 30, 30), phrases=("a dog",))
    image = ImageAnnotation(image_id="9", image="9.jpg", width=300, height=600, objects=(item, item))
    with pytest.raises(ValueError, match="two objects of image 9 have the annotation id ''; make ids unique"):
        list(expressions_of([image]))


# ---- records


def test_a_record_holds_the_question_for_a_model_and_the_statement_for_a_probe():
    images = images_with([1] * 9)
    yes, no = items_of(images)[10:12]
    assert yes.id == "5000-5-0-middle-right"
    statement = 'The phrase "the middle right dog 0" refers to the middle right part of the image.'
    (query,) = yes.queries
    assert query.question == f"{statement} Does the phrase match the location in the image?"
    assert (query.objective, query.answer, query.phrase, query.category) == (
        "vqa",
        "yes",
        "the middle right dog 0",
        "dog",
    )
    assert query.box_px == Box(210, 210, 290, 390)
    assert yes.source == {
        "task": "rcm",
        "split": "val",
        "image_id": "5000",
        "expression_id": "5000-5-0",
        "phrase": "the middle right dog 0",
        "statement": statement,
        "cell": "middle right",
        "true_cell": "middle right",
        "label": True,
        "box_px": [210, 210, 290, 390],
    }
    assert (no.source["expression_id"], no.source["label"], no.queries[0].answer) == ("5000-5-0", False, "no")
    assert no.id == f"5000-5-0-{no.source['cell'].replace(' ', '-')}"
    assert record_from_json(record_to_json(yes)) == yes


def test_braces_in_a_phrase_stay():
    (image, *others) = images_with([1] * 9)
    item = ObjectAnnotation(
        category="", box_px=image.objects[0].box_px, annotation_id="1", phrases=('a {cell} of "{}"',)
    )
    braced = ImageAnnotation(
        image_id="0", image="0.jpg", width=image.width, height=image.height, objects=(item,)
    )
    assert 'The phrase "a {cell} of "{}"" refers to' in items_of([braced, *others])[0].queries[0].question


def test_on_the_real_sample(shared_data):
    path = shared_data / "refcoco" / "refcocog_val_sample.json"
    expressions = list(expressions_of(read_refcoco(path, ledger=Ledger())))
    selection = select(expressions, seed=0)
    assert selection.available == (20, 37, 12, 60, 112, 69, 28, 30, 31)
    records = build_rcm_records(expressions, selection, split="val")
    assert answers(records) == {"yes": 108, "no": 108}
    cells = Counter((record.source["cell"], record.queries[0].answer) for record in records)
    assert set(cells.values()) == {12}
    assert len(cells) == 18
