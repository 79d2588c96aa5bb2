import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box
from locvlm.io import Ledger
from locvlm.objectives.negatives import NegativeSampler
from locvlm.objectives.negpred import ABSENT_ANSWER
from locvlm.objectives.render import render_record
from locvlm.objectives.select import (
    Negatives,
    SelectionConfig,
    build_record,
    build_records,
    class_gap,
    eligible_objects,
    make_negatives,
    present_classes,
)
from locvlm.records import ImageAnnotation, ObjectAnnotation


def thing(category, *, is_crowd=False, side=50):
    return ObjectAnnotation(category=category, box_px=Box(10, 10, 10 + side, 10 + side), is_crowd=is_crowd)


def image_of(*objects, image_id="1"):
    items = tuple(thing(item) if isinstance(item, str) else item for item in objects)
    return ImageAnnotation(image_id=image_id, image=f"{image_id}.jpg", width=100, height=100, objects=items)


def skewed_images(n, *, num_classes=30, seed=0):
    """Classes as in photographs: the k-th is drawn 1 / k as often as the first."""
    rng = random.Random(seed)
    names = [f"class{k:02d}" for k in range(num_classes)]
    weights = [1 / (k + 1) for k in range(num_classes)]
    return [
        image_of(*rng.choices(names, weights, k=rng.randint(1, 4)), image_id=str(number))
        for number in range(n)
    ]


def names_of(objects):
    return [item.category for item in objects]


def test_only_single_instances_are_eligible():
    assert names_of(eligible_objects(image_of("dog", "cat", "dog", "bus"))) == ["cat", "bus"]
    repeated = eligible_objects(image_of("dog", "cat", "dog"), allow_repeated=True)
    assert names_of(repeated) == ["dog", "cat", "dog"]


def test_crowds_are_never_eligible_but_present_and_count_as_instances():
    image = image_of("dog", thing("person", is_crowd=True), thing("dog", is_crowd=True), "cat")
    assert names_of(eligible_objects(image)) == ["cat"]
    assert names_of(eligible_objects(image, allow_repeated=True)) == ["dog", "cat"]
    assert present_classes(image) == {"dog", "person", "cat"}


def test_a_small_object_is_not_asked_about_but_still_an_instance():
    image = image_of("dog", thing("dog", side=3), thing("cat", side=3), "bus")
    assert names_of(eligible_objects(image, min_area_px=100)) == ["bus"]


def test_a_record_asks_for_and_about_every_object_and_for_absent_classes():
    image = image_of("dog", "cat", "cat", thing("bus", is_crowd=True), image_id="7")
    config = SelectionConfig(num_negatives=2)
    negatives = make_negatives([image, image_of("cow"), image_of("elk"), image_of("emu")], config)
    record = build_record(image, negatives, config)
    assert (record.id, record.image, record.width, record.height) == ("7", "7.jpg", 100, 100)
    asked = {(q.objective, q.phrase, q.box_px) for q in record.queries if q.objective != "negpred"}
    assert asked == {("locpred", "dog", Box(10, 10, 60, 60)), ("revloc", "dog", Box(10, 10, 60, 60))}
    absent = [q.phrase for q in record.queries if q.objective == "negpred"]
    assert len(set(absent)) == 2
    assert set(absent) <= {"cow", "elk", "emu"}


def test_an_object_without_a_usable_box_counts_as_an_instance_and_is_not_absent():
    image = replace(image_of("dog", "cat"), unplaced=("dog", "bus"))
    assert names_of(eligible_objects(image)) == ["cat"]
    assert present_classes(image) == {"dog", "cat", "bus"}


def test_crowd_classes_are_never_asked_for_as_absent():
    images = [image_of("dog", thing("bus", is_crowd=True), image_id=str(k)) for k in range(20)]
    images += [image_of("bus", image_id="b"), image_of("cat", image_id="c")]
    config = SelectionConfig(num_negatives=6)
    negatives = make_negatives(images, config)
    for image in images[:20]:
        absent = [
            q.phrase for q in build_record(image, negatives, config).queries if q.objective == "negpred"
        ]
        assert absent == ["cat"]


def test_images_with_nothing_to_ask_about_are_counted():
    images = [image_of("dog", "dog", image_id="1"), image_of("cat", image_id="2"), image_of(image_id="3")]
    config, ledger = SelectionConfig(), Ledger()
    records = list(build_records(images, make_negatives(images, config), config, ledger))
    assert [record.id for record in records] == ["2"]
    assert dict(ledger.dropped) == {"no object to ask about": 2}


def test_a_record_depends_on_seed_and_image_alone():
    images = skewed_images(50)
    config = SelectionConfig(seed=3)
    negatives = make_negatives(images, config)
    forward = [build_record(image, negatives, config) for image in images]
    backward = [build_record(image, negatives, config) for image in images[::-1]][::-1]
    assert forward == backward
    other = SelectionConfig(seed=4)
    assert forward != [build_record(image, negatives, other) for image in images]


def test_the_place_of_a_question_does_not_tell_its_kind():
    images = skewed_images(1000)
    config = SelectionConfig(num_negatives=3)
    negatives = make_negatives(images, config)
    records = [r for r in (build_record(image, negatives, config) for image in images) if r]
    for objective in ("locpred", "negpred", "revloc"):
        kinds = [[query.objective == objective for query in record.queries] for record in records]
        first = sum(kind[0] for kind in kinds)
        by_chance = sum(sum(kind) / len(kind) for kind in kinds)
        assert first == pytest.approx(by_chance, abs=4 * len(records) ** 0.5 / 2)  # 4 standard deviations


def build(images, config):
    negatives = make_negatives(images, config)
    return list(build_records(images, negatives, config, Ledger()))


def class_counts(records, objective):
    return Counter(q.category for r in records for q in r.queries if q.objective == objective)


@pytest.mark.parametrize("num_negatives", [2, 6])
def test_absent_classes_are_drawn_as_present_ones_are_asked(num_negatives):
    images = skewed_images(3000)
    gaps = {}
    for negatives in ("proportional", "uniform"):
        records = build(images, SelectionConfig(num_negatives=num_negatives, negatives=negatives))
        gaps[negatives] = class_gap(class_counts(records, "locpred"), class_counts(records, "negpred"))
    assert gaps["proportional"] <= 0.55
    assert gaps["uniform"] > 0.65


def test_plain_frequencies_would_fall_short_so_the_fit_matters():
    images = skewed_images(2000)
    config = SelectionConfig(num_negatives=6)
    counts = Counter(item.category for image in images for item in eligible_objects(image))
    gaps = []
    for negatives in (Negatives(NegativeSampler(counts)), make_negatives(images, config)):
        records = list(build_records(images, negatives, config, Ledger()))
        gaps.append(class_gap(class_counts(records, "locpred"), class_counts(records, "negpred")))
    assert gaps[1] < gaps[0] - 0.03


def test_the_class_gap_of_a_hand_made_case():
    assert class_gap({"a": 1, "b": 1}, {"a": 5, "b": 5}) == pytest.approx(0.5)
    assert class_gap({"a": 1}, {"b": 1}) == pytest.approx(1.0)
    # guess "present" for a, "absent" for b: right in 3/4 of present and 3/4 of absent questions
    assert class_gap({"a": 3, "b": 1}, {"a": 1, "b": 3}) == pytest.approx(0.75)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        SelectionConfig(num_negatives=-1)
    with pytest.raises(ValueError, match=r"hard_fraction must be in \[0, 1\], got 1.5"):
        SelectionConfig(hard_fraction=1.5)
    with pytest.raises(ValueError, match="ask_by must be one of label, description, expression, got 'name'"):
        SelectionConfig(ask_by="name")


# ---- objects that go by phrases


def phrased(category, *phrases, number=1):
    return ObjectAnnotation(
        category=category, box_px=Box(10, 10, 60, 60), annotation_id=str(number), phrases=phrases
    )


def described_images(n, *, num_classes=12):
    """As `skewed_images`, with descriptions: longer ones for rarer classes, the image named in each."""
    rng = random.Random(1)
    return [
        replace(
            image,
            objects=tuple(
                phrased(
                    item.category,
                    f"the {rng.choice(('red', 'old', 'small'))} {item.category} "
                    + "that stands there " * rng.randint(0, int(item.category[-2:]) // 3)
                    + f"in {image.image_id}",
                    number=number,
                )
                for number, item in enumerate(image.objects)
            ),
        )
        for image in skewed_images(n, num_classes=num_classes)
    ]


def phrases_of(record, objective):
    return [query.phrase for query in record.queries if query.objective == objective]


def test_described_objects_go_by_their_descriptions_and_others_are_dropped_and_counted():
    images = [
        image_of(phrased("dog", "a wet dog"), "cat", image_id="1"),
        image_of(phrased("cow", "a cow"), phrased("elk", "an old elk"), "elk", image_id="2"),
        image_of("emu", image_id="3"),
    ]
    config = SelectionConfig(ask_by="description")
    negatives, selection, objects = make_negatives(images, config), Ledger(), Ledger()
    records = list(build_records(images, negatives, config, selection, objects))
    assert [phrases_of(record, "locpred") for record in records] == [["a wet dog"], ["a cow"]]
    assert [sorted(phrases_of(record, "revloc")) for record in records] == [["a wet dog"], ["a cow"]]
    assert [phrases_of(record, "negpred") for record in records] == [["a cow"], ["a wet dog"]]
    assert (objects.num_kept, dict(objects.dropped)) == (2, {"no description": 2})
    assert dict(selection.dropped) == {"no object to ask about": 1}

    config = SelectionConfig(ask_by="description", undescribed="label")
    records = list(build_records(images, make_negatives(images, config), config, Ledger()))
    assert [sorted(phrases_of(record, "locpred")) for record in records] == [
        ["a wet dog", "cat"],
        ["a cow"],
        ["emu"],
    ]
    assert set(phrases_of(records[1], "negpred")) == {"a wet dog", "cat", "emu"}


def test_every_expression_is_a_question_and_instances_may_repeat():
    image = image_of(
        phrased("dog", "wet dog", "left one", number=1),
        phrased("dog", "dry dog", number=2),
        phrased("cat", number=3),
        thing("bus", is_crowd=True),
    )
    others = [image_of(phrased(c, f"a {c}"), image_id=c) for c in ("dog", "cat", "bus", "cow", "elk")]
    config = SelectionConfig(ask_by="expression")
    record = build_record(image, make_negatives([image, *others], config), config)
    assert sorted(phrases_of(record, "locpred")) == ["dry dog", "left one", "wet dog"]
    assert sorted(phrases_of(record, "revloc")) == ["dry dog", "left one", "wet dog"]
    assert set(phrases_of(record, "negpred")) == {"a cow", "a elk"}  # not cat or bus, which are there

    one = SelectionConfig(ask_by="expression", one_phrase=True)
    drawn = set()
    for seed in range(20):
        seeded = replace(one, seed=seed)
        record = build_record(image, make_negatives([image, *others], seeded), seeded)
        assert sorted(phrases_of(record, "locpred")) == sorted(phrases_of(record, "revloc"))
        assert len(phrases_of(record, "locpred")) == 2
        drawn.update(phrases_of(record, "locpred"))
    assert drawn == {"dry dog", "left one", "wet dog"}


def test_absent_phrases_are_of_other_images_where_the_class_is_absent_here():
    images = described_images(300)
    config = SelectionConfig(ask_by="description")
    records = build(images, config)
    by_id = {image.image_id: image for image in images}
    num_borrowed = 0
    for record in records:
        borrowed = [query for query in record.queries if query.objective == "negpred"]
        assert len({query.phrase for query in borrowed}) == len(borrowed)
        for query in borrowed:
            assert query.category not in present_classes(by_id[record.id])
            home = by_id[query.phrase.rsplit(" ", 1)[1]]
            assert query.phrase in {phrase for item in home.objects for phrase in item.phrases}
            num_borrowed += 1
    assert num_borrowed > 1000


def test_records_by_phrases_do_not_depend_on_the_order_of_images_or_on_the_part():
    images = described_images(60)
    config = SelectionConfig(ask_by="description", hard_fraction=0.5)
    negatives = make_negatives(images, config)
    records = {r.id: r for r in build_records(images, negatives, config, Ledger())}
    assert len(records) > 30
    again = make_negatives(images[::-1], config)
    for image in images[40:]:
        assert build_record(image, negatives, config) == records.get(image.image_id)
        assert build_record(image, again, config) == records.get(image.image_id)


def test_neither_class_nor_length_of_descriptions_tells_absent_from_present():
    images = described_images(400)
    records = build(images, SelectionConfig(ask_by="description"))
    assert class_gap(class_counts(records, "locpred"), class_counts(records, "negpred")) <= 0.55
    lengths = [
        Counter(len(phrase.split()) for record in records for phrase in phrases_of(record, objective))
        for objective in ("locpred", "negpred")
    ]
    assert class_gap(*lengths) <= 0.55
    labels = Counter(
        len(query.category.split()) for r in records for query in r.queries if query.objective == "negpred"
    )
    assert class_gap(lengths[0], labels) == 1.0  # labels for what is absent would give it away


# ---- the prompt alone must not tell absent from present (paper app. B)


def prompts_of(images, config):
    contract = CoordinateContract(canvas=224, patch=14)
    present, absent = [], []
    for record in build(images, config):
        sample = render_record(record, contract, seed=0, epoch=0)
        for query, (turn,) in zip(record.queries, sample.branches, strict=True):
            if query.objective != "revloc":
                (absent if turn.answer == ABSENT_ANSWER else present).append(turn.question)
    return present, absent


def balanced_accuracy_of_naive_bayes(train, test):
    """Words of the prompt -> absent or present; mean of the two shares found right on held-out prompts."""
    vocabulary = sorted({word for prompts in train for prompt in prompts for word in prompt.split()})
    column = {word: k for k, word in enumerate(vocabulary)}

    def counts(prompts):
        table = np.zeros((len(prompts), len(vocabulary)))
        for row, prompt in enumerate(prompts):
            for word in prompt.split():
                if word in column:
                    table[row, column[word]] += 1
        return table

    log_odds = np.zeros(len(vocabulary))
    for sign, prompts in zip((1, -1), train, strict=True):
        totals = counts(prompts).sum(axis=0) + 1
        log_odds += sign * np.log(totals / totals.sum())
    return np.mean(
        [
            (sign * (counts(prompts) @ log_odds) > 0).mean()
            for sign, prompts in zip((1, -1), test, strict=True)
        ]
    )


def test_a_classifier_of_prompts_with_descriptions_stays_at_chance():
    prompts = prompts_of(described_images(800), SelectionConfig(ask_by="description"))
    halves = [[list(p[k::2]) for p in prompts] for k in (0, 1)]
    assert min(len(p) for p in prompts) > 1000
    assert balanced_accuracy_of_naive_bayes(*halves) <= 0.55
    labels = prompts_of(described_images(800), SelectionConfig(ask_by="label"))[1]
    halves = [[list(p[k::2]) for p in (prompts[0], labels)] for k in (0, 1)]
    assert balanced_accuracy_of_naive_bayes(*halves) > 0.9  # as labels, absent ones would be found out


def test_a_classifier_of_the_prompts_stays_at_chance():
    config = SelectionConfig(num_negatives=6)
    prompts = prompts_of(skewed_images(4000), config)
    halves = [[list(p[k::2]) for p in prompts] for k in (0, 1)]
    assert min(len(p) for p in prompts) > 2000
    assert balanced_accuracy_of_naive_bayes(*halves) <= 0.55
    uniform = prompts_of(skewed_images(4000), SelectionConfig(num_negatives=6, negatives="uniform"))
    halves = [[list(p[k::2]) for p in uniform] for k in (0, 1)]
    assert balanced_accuracy_of_naive_bayes(*halves) > 0.6  # the classifier does find what there is to find
