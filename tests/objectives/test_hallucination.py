from collections import Counter

import pytest

from locvlm.annotations.yes_no import read_yes_no
from locvlm.io import Ledger
from locvlm.objectives.hallucination import (
    PopeStatistics,
    ask_pope,
    ask_presence,
    choose_scenes,
    make_absence_sampler,
    pope_question,
)
from locvlm.objectives.presence import Scene, with_enough_classes
from locvlm.records import Record

CLASSES = ("apple", "bus", "cat", "dog", "elk", "fox", "owl", "pig")


def scene(name, present, *, video=False):
    medium = {"image": None, "video": f"{name}.mp4"} if video else {"image": f"{name}.jpg"}
    present = tuple(sorted(present))
    absent = tuple(item for item in CLASSES if item not in present)
    return Scene(record=Record(id=name, source={"image_id": name}, **medium), present=present, absent=absent)


# dog is in 5, cat in 4, bus in 3, elk in 2, fox and owl in 1 image; apple and pig in none
SCENES = [
    scene("a", ("dog", "cat", "bus")),
    scene("b", ("dog", "cat", "bus")),
    scene("c", ("dog", "cat", "elk")),
    scene("d", ("dog", "bus", "fox")),
    scene("e", ("dog", "cat", "elk", "owl")),
]


def asked(record, answer):
    return [query.category for query in record.queries if query.answer == answer]


@pytest.mark.parametrize("draw", ["uniform", "proportional"])
def test_two_present_and_two_absent_classes_are_asked_about_in_the_papers_words(draw):
    sampler = make_absence_sampler(SCENES, num_pairs=2, draw=draw, seed=0)
    for item in SCENES:
        record = ask_presence(item, sampler, num_pairs=2, kind="hal_coco", seed=0)
        assert set(asked(record, "yes")) <= set(item.present)
        assert set(asked(record, "no")) <= set(item.absent)
        assert len(set(asked(record, "yes"))) == len(set(asked(record, "no"))) == 2
        assert {query.objective for query in record.queries} == {"vqa"}
        for query in record.queries:
            assert query.question == f"Is there {query.category} in image?"
        assert record.source == {"image_id": item.record.id, "kind": "hal_coco"}


def test_a_video_is_asked_about_as_a_video():
    scenes = [scene("a", ("dog", "cat"), video=True)]
    sampler = make_absence_sampler(scenes, num_pairs=1, draw="uniform", seed=0)
    record = ask_presence(scenes[0], sampler, num_pairs=1, kind="hal_act", seed=0)
    assert (record.image, record.video) == (None, "a.mp4")
    assert {query.question for query in record.queries} == {
        f"Is there {query.category} in video?" for query in record.queries
    }


def test_draws_depend_on_seed_and_id_alone():
    sampler = make_absence_sampler(SCENES, num_pairs=2, draw="uniform", seed=0)
    forward = {s.record.id: ask_presence(s, sampler, num_pairs=2, kind="k", seed=0) for s in SCENES}
    backward = {s.record.id: ask_presence(s, sampler, num_pairs=2, kind="k", seed=0) for s in SCENES[::-1]}
    assert forward == backward
    other = {s.record.id: ask_presence(s, sampler, num_pairs=2, kind="k", seed=1) for s in SCENES}
    assert other != forward


def test_the_order_of_questions_does_not_tell_the_answer():
    scenes = [scene(f"{k}", ("dog", "cat", "bus")) for k in range(400)]
    sampler = make_absence_sampler(scenes, num_pairs=2, draw="uniform", seed=0)
    records = [ask_presence(item, sampler, num_pairs=2, kind="k", seed=0) for item in scenes]
    for place in range(4):
        yes = sum(record.queries[place].answer == "yes" for record in records)
        assert 150 < yes < 250  # 5 standard deviations around a half


def test_proportional_draws_make_the_class_tell_less():
    scenes = [scene(f"{k}", ("dog", CLASSES[k % 3], CLASSES[4 + k % 4])) for k in range(300)]
    no = {}
    for draw in ("uniform", "proportional"):
        sampler = make_absence_sampler(scenes, num_pairs=2, draw=draw, seed=0)
        records = [ask_presence(item, sampler, num_pairs=2, kind="k", seed=0) for item in scenes]
        no[draw] = Counter(name for record in records for name in asked(record, "no"))
    # apple, bus and cat are present in a third of the images, elk, fox, owl and pig in a quarter
    often, rarely = ("apple", "bus", "cat"), ("elk", "fox", "owl", "pig")
    share = {draw: sum(c[n] for n in often) / sum(c[n] for n in rarely) for draw, c in no.items()}
    assert share["uniform"] < 0.9 < share["proportional"]


def test_images_with_too_few_classes_are_counted():
    ledger = Ledger()
    scenes = [*SCENES, scene("one", ("dog",)), scene("all", CLASSES[1:])]
    assert list(with_enough_classes(scenes, 2, ledger)) == SCENES
    assert dict(ledger.dropped) == {"fewer than 2 present classes": 1, "fewer than 2 absent classes": 1}
    with pytest.raises(ValueError, match="at least 1 present and 1 absent class"):
        list(with_enough_classes(scenes, 0, Ledger()))


def test_the_statistics_count_images():
    statistics = PopeStatistics.of(SCENES)
    assert statistics.popular == ("dog", "cat", "bus", "elk", "fox", "owl")
    assert statistics.together["dog"] == ("cat", "bus", "elk", "fox", "owl")
    assert statistics.together["cat"] == ("dog", "bus", "elk", "owl")  # bus and elk twice each: the alphabet
    assert statistics.together["fox"] == ("bus", "dog")


def test_popular_asks_about_what_most_images_hold():
    statistics = PopeStatistics.of(SCENES)
    record = ask_pope(SCENES[3], statistics, setting="popular", num_pairs=3, seed=0)
    assert asked(record, "no") == ["cat", "elk", "owl"]
    assert sorted(asked(record, "yes")) == ["bus", "dog", "fox"]
    assert [query.answer for query in record.queries] == ["yes", "no"] * 3


def test_adversarial_asks_about_what_comes_most_often_with_the_class_before():
    statistics = PopeStatistics.of(SCENES)
    for item in SCENES:
        record = ask_pope(item, statistics, setting="adversarial", num_pairs=2, seed=0)
        used = set()
        for present, absent in zip(asked(record, "yes"), asked(record, "no"), strict=True):
            company = Counter(o for s in SCENES if present in s.present for o in s.present)
            left = [name for name in item.absent if name not in used]
            assert company[absent] == max(company[name] for name in left)
            used.add(absent)


def test_where_no_company_is_left_any_absent_class_is_asked_about():
    alone = [scene("a", ("dog", "cat")), scene("b", ("elk", "fox"))]
    statistics = PopeStatistics.of(alone)
    record = ask_pope(alone[0], statistics, setting="adversarial", num_pairs=2, seed=0)
    assert len(set(asked(record, "no"))) == 2
    assert set(asked(record, "no")) <= set(alone[0].absent)


def test_the_settings_share_their_present_classes_and_random_differs_from_the_others():
    statistics = PopeStatistics.of(SCENES)
    records = {
        setting: [ask_pope(s, statistics, setting=setting, num_pairs=3, seed=0) for s in SCENES]
        for setting in ("random", "popular", "adversarial")
    }
    present = [[asked(record, "yes") for record in made] for made in records.values()]
    assert present[0] == present[1] == present[2]
    absent = {setting: [asked(record, "no") for record in made] for setting, made in records.items()}
    assert absent["random"] != absent["popular"]
    assert "apple" in {name for names in absent["random"] for name in names}  # which no image holds
    assert records["random"][0].source == {"image_id": "a", "kind": "pope", "setting": "random"}


def test_the_article_follows_the_first_letter_as_in_popes_files():
    record = ask_pope(
        scene("a", ("elk", "dog")), PopeStatistics.of([]), setting="random", num_pairs=2, seed=0
    )
    questions = {query.category: query.question for query in record.queries}
    assert questions["elk"] == "Is there an elk in the image?"
    assert questions["dog"] == "Is there a dog in the image?"


def test_the_wording_is_that_of_the_real_files(shared_data):
    queries = [q for r in read_yes_no(shared_data / "pope" / "coco_pope_random.json") for q in r.queries]
    assert [query.question for query in queries] == [pope_question(query.category) for query in queries]
    assert [query.answer for query in queries] == ["yes", "no"] * 60


def test_the_same_images_are_chosen_however_they_are_sorted():
    scenes = [scene(f"{k}", ("dog", "cat")) for k in range(20)]
    chosen = choose_scenes(scenes, 8, seed=0)
    assert chosen == [item for item in scenes if item in chosen]  # in their order
    assert {s.record.id for s in choose_scenes(scenes[::-1], 8, seed=0)} == {s.record.id for s in chosen}
    assert chosen != choose_scenes(scenes, 8, seed=1)
    with pytest.raises(ValueError, match="20 images can be asked about, 21 are wanted"):
        choose_scenes(scenes, 21, seed=0)
