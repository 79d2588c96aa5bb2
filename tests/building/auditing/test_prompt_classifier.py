"""A giveaway in the wording is found; where there is none, nothing is."""

import random

import pytest

from locvlm.building.auditing.prompt_classifier import (
    Prompt,
    PromptSample,
    features_of,
    guess_by,
    guess_from_prompts,
)

CLASSES = [f"thing {k}" for k in range(40)]


def prompts_of(text_of, *, images=400, seed=0):
    """Two prompts about what is there and two about what is absent, of each image; text_of(absent, rng)."""
    rng = random.Random(seed)
    return [
        Prompt(f"n{number}", text_of(absent, rng), absent)
        for number in range(images)
        for absent in (False, False, True, True)
    ]


def test_features_are_words_pairs_and_length():
    assert features_of("Where is a dog, a dog?") == [
        *("where", "is", "a", "dog", "where is", "is a", "a dog", "dog a"),
        "(6 words)",
    ]


def test_balanced_prompts_tell_nothing():
    guess = guess_from_prompts(prompts_of(lambda absent, rng: f"Where is the {rng.choice(CLASSES)}?"))
    assert guess.accuracy == pytest.approx(0.5, abs=0.04)  # two standard deviations of 1,600 fair guesses
    assert guess.num_prompts == 1600


@pytest.mark.parametrize(
    "giveaway",
    [
        lambda absent, rng: f"Where is {'a' if absent else 'the'} {rng.choice(CLASSES)}?",
        lambda absent, rng: f"Where is the {rng.choice(CLASSES[:20] if absent else CLASSES[20:])}?",
        lambda absent, rng: "Where is the thing" + " there" * (1 + absent) + "?",
    ],
    ids=["article", "classes", "length"],
)
def test_a_giveaway_is_found(giveaway):
    assert guess_from_prompts(prompts_of(giveaway)).accuracy > 0.95


def test_it_says_what_tells():
    guess = guess_from_prompts(
        prompts_of(lambda absent, rng: f"Is {'some' if absent else 'this'} {rng.choice(CLASSES)}?")
    )
    assert {"some", "is some"} <= set(guess.telling_absent)
    assert {"this", "is this"} <= set(guess.telling_present)


def test_a_giveaway_in_one_prompt_of_five_is_found_as_far_as_it_tells():
    def text_of(absent, rng):
        return f"Where is the {rng.choice(CLASSES)}{' please' if absent and rng.random() < 0.2 else ''}?"

    # of the absent ones 0.2 are certain, all others look alike: 0.5 + 0.2 / 2
    assert guess_from_prompts(prompts_of(text_of, images=2000)).accuracy == pytest.approx(0.6, abs=0.03)


def test_what_only_one_image_holds_does_not_count():
    # a word of its own for every image tells its own prompts apart, and those of no other image
    rng = random.Random(0)
    prompts = [
        Prompt(f"n{k}", f"where is w{k}{'a' if absent else 'b'}{rng.random()}", absent)
        for k in range(400)
        for absent in (False, True)
    ]
    assert guess_from_prompts(prompts).accuracy == pytest.approx(0.5, abs=0.05)


def test_the_order_of_the_prompts_does_not_matter():
    prompts = prompts_of(lambda absent, rng: f"Where is the {rng.choice(CLASSES[: 30 + 10 * absent])}?")
    shuffled = random.Random(1).sample(prompts, len(prompts))
    assert guess_from_prompts(prompts) == guess_from_prompts(shuffled)
    assert guess_by(prompts, lambda p: p.text) == guess_by(shuffled, lambda p: p.text)


def test_there_is_no_guess_without_both_kinds_in_both_halves():
    assert guess_from_prompts([]) is None
    assert guess_by([], lambda prompt: prompt.category) is None
    one_kind = [Prompt(f"n{k}", "where", False) for k in range(50)]
    assert guess_from_prompts(one_kind) is None
    assert guess_from_prompts([*one_kind, Prompt("n0", "where", True)]) is None


def test_the_class_alone_is_tried_on_other_images():
    def prompts(absent_classes, present_classes, images=600):
        rng = random.Random(0)
        return [
            Prompt(f"n{k}", "", absent, category=rng.choice(absent_classes if absent else present_classes))
            for k in range(images)
            for absent in (False, True)
        ]

    def by_class(prompt):
        return prompt.category

    assert guess_by(prompts(["dog"], ["cat"]), by_class) == 1.0
    assert guess_by(prompts(["dog"], ["dog"]), by_class) == 0.5
    # dog is absent in half of its questions for what is absent, cat in none: certain of a half of the absent
    assert guess_by(prompts(["dog", "cat"], ["cat"], 4000), by_class) == pytest.approx(0.75, abs=0.02)
    # 600 questions of 80 classes: their frequencies differ by chance, which is no shortcut
    classes = [f"class {k}" for k in range(80)]
    assert guess_by(prompts(classes, classes), by_class) == pytest.approx(0.5, abs=0.04)


def test_a_kind_that_was_not_learnt_is_a_coin():
    prompts = [
        Prompt(f"n{k}", "", absent, category=f"{k} {absent}") for k in range(9) for absent in (True, False)
    ]
    assert guess_by(prompts, lambda prompt: prompt.category) == 0.5


def test_a_sample_holds_whole_images_and_does_not_depend_on_their_order():
    prompts = [Prompt(f"n{k}", f"text {k} {n}", n % 2 == 0) for k in range(300) for n in range(1 + k % 7)]
    held = []
    for seed in range(4):
        sample = PromptSample(100)
        for prompt in random.Random(seed).sample(prompts, len(prompts)):
            sample.add(prompt)
        held.append(sorted(sample))
    assert held[0] == held[1] == held[2] == held[3]
    images = {prompt.image for prompt in held[0]}
    assert held[0] == sorted(prompt for prompt in prompts if prompt.image in images)
    assert 100 <= len(held[0]) < 107  # the last image may have seven


def test_a_sample_of_few_prompts_is_all_of_them():
    prompts = prompts_of(lambda absent, rng: "where", images=5)
    sample = PromptSample(100)
    for prompt in prompts:
        assert sample.wants(prompt.image)
        sample.add(prompt)
    assert list(sample) == prompts
