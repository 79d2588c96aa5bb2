import random
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from locvlm.objectives.negatives import Company, NegativeSampler, PhraseBook
from locvlm.objectives.select import class_gap


def frequencies(draw, n):
    counts = Counter(item for number in range(n) for item in draw(random.Random(f"0/{number}")))
    return {item: count / n for item, count in counts.items()}


def test_classes_are_absent_and_different():
    sampler = NegativeSampler(dict.fromkeys("abcdef", 1))
    for number in range(50):
        drawn = sampler.draw(frozenset("ab"), 3, random.Random(number))
        assert len(set(drawn)) == 3
        assert set(drawn) <= set("cdef")
    assert sorted(sampler.draw(frozenset("ab"), 9, random.Random(0))) == list("cdef")
    assert sampler.draw(frozenset("abcdef"), 2, random.Random(0)) == []
    assert sampler.draw(frozenset("a"), 0, random.Random(0)) == []


def test_a_class_that_is_never_asked_about_is_never_drawn_as_absent():
    sampler = NegativeSampler({"a": 1, "b": 0, "c": 2})
    assert sorted(sampler.draw(frozenset(), 3, random.Random(0))) == ["a", "c"]
    uniform = NegativeSampler({"a": 1, "b": 0, "c": 2}, "uniform")
    assert sorted(uniform.draw(frozenset(), 3, random.Random(0))) == ["a", "b", "c"]


def test_two_draws_without_replacement_have_the_exact_frequencies():
    weights = {"a": 1, "b": 2, "c": 5, "d": 100}
    expected = Counter()
    for first, second in permutations("abc", 2):  # d is there
        chance = weights[first] / 8 * weights[second] / (8 - weights[first])
        expected.update({first: chance, second: chance})
    sampler = NegativeSampler(weights)
    n = 10_000
    got = frequencies(lambda rng: sampler.draw(frozenset("d"), 2, rng), n)
    assert got == pytest.approx(expected, abs=4 * 0.5 / n**0.5)  # 4 standard deviations


def test_a_sampler_that_can_repeat_draws_each_time_by_the_same_weights():
    sampler = NegativeSampler({"a": 1, "b": 3, "c": 9}, can_repeat=True)
    n = 5_000
    got = frequencies(lambda rng: sampler.draw(frozenset("c"), 4, rng), n)
    assert got == pytest.approx({"a": 1, "b": 3}, abs=4 * 2 * 0.5 / n**0.5)


def test_company_of_a_hand_made_case():
    #            a  b  c      alone: a 3, b 2, c 2 of 4 images; together: a b 2, a c 1, b c 0
    table = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]], dtype=bool)
    company = Company(table)
    assert company.of_image([0])[1:] == pytest.approx([2 * 4 / (3 * 2), 1 * 4 / (3 * 2)])
    assert company.of_image([1, 2])[0] == pytest.approx((2 * 4 / (2 * 3) + 1 * 4 / (2 * 3)) / 2)
    assert company.of_image([1])[2] == 0
    assert company.of_images(table)[1] == pytest.approx(company.of_image([0, 1]))
    assert not company.of_images(np.zeros((1, 3), dtype=bool)).any()


def themed_images(n, *, others=0.0, seed=0):
    """Three draws of classes: of the image's theme, and `others` times as likely of the two others."""
    rng = random.Random(seed)
    names = [f"{theme}{k}" for theme in range(3) for k in range(8)]
    images = []
    for _ in range(n):
        theme = str(rng.randrange(3))
        weights = [(1.0 if name[0] == theme else others) / (int(name[1]) + 1) for name in names]
        images.append(frozenset(rng.choices(names, weights, k=3)))
    return images


@pytest.mark.parametrize("draw", ["proportional", "uniform"])
def test_the_share_of_hard_negatives_is_the_usual_company(draw):
    images = themed_images(500)
    counts = Counter(name for image in images for name in image)
    for hard_fraction, least in ((1.0, 4), (0.5, 2), (0.6, 2), (0.0, 0)):
        sampler = NegativeSampler(counts, draw, hard_fraction=hard_fraction)
        sampler.fit(images, 4)
        shares = []
        for number, image in enumerate(images):
            theme = next(iter(image))[0]
            drawn = sampler.draw(image, 4, random.Random(number))
            shares.append(sum(name[0] == theme for name in drawn))
            assert len(set(drawn)) == 4
            assert not set(drawn) & image
        assert min(shares) >= least  # classes of other themes are never beside these
        if hard_fraction == 0.6:  # 2.4 of 4: two or three
            assert sum(share >= 3 for share in shares) > 0.4 * len(images)
        if hard_fraction == 0:
            assert min(shares) == 0


@pytest.mark.parametrize("can_repeat", [False, True])
@pytest.mark.parametrize("hard_fraction", [0.0, 0.5, 1.0])
def test_fitted_draws_follow_the_target_with_hard_ones_too(hard_fraction, can_repeat):
    images = themed_images(2000, others=0.3)
    counts = Counter(name for image in images for name in image)
    sampler = NegativeSampler(counts, hard_fraction=hard_fraction, can_repeat=can_repeat)
    gaps = []
    for _ in range(2):
        drawn = Counter()
        for number, image in enumerate(4 * images):  # many, since chance alone makes a gap
            drawn.update(sampler.draw(image, 3, random.Random(number)))
        gaps.append(class_gap(counts, drawn))
        sampler.fit(images, 3)
    assert gaps[1] < 0.52
    assert gaps[1] < gaps[0] - 0.01  # by plain frequencies it falls short


def test_phrases_are_borrowed_as_often_as_they_are_asked_and_never_twice():
    pairs = [("dog", "a wet dog"), ("dog", "a wet dog"), ("dog", "dry dog"), ("cat", "Cat"), ("cat", "cat")]
    book, same = PhraseBook(pairs), PhraseBook(pairs[::-1])
    n = 4000
    got = frequencies(lambda rng: book.borrow(["dog"], [], rng), n)
    assert got == pytest.approx(
        {("dog", "a wet dog"): 2 / 3, ("dog", "dry dog"): 1 / 3}, abs=4 * 0.5 / n**0.5
    )
    for number in range(20):
        borrowed = book.borrow(["dog", "dog", "cat", "dog", "cat"], ["a cow"], random.Random(number))
        assert sorted(name for name, _ in borrowed) == ["cat", "dog", "dog"]
        assert len({phrase.casefold() for _, phrase in borrowed}) == 3
        assert borrowed == same.borrow(["dog", "dog", "cat", "dog", "cat"], ["a cow"], random.Random(number))
    assert book.borrow(["dog"], ["A wet dog"], random.Random(0)) == [("dog", "dry dog")]
    assert book.borrow(["dog", "emu"], ["a wet dog", "dry dog"], random.Random(0)) == []


def test_phrases_that_name_only_a_place_are_true_anywhere_and_never_borrowed():
    places = ["left", "the one on the far right", "Middle, bottom", "second from left"]
    book = PhraseBook([("dog", phrase) for phrase in [*places, "dog on left"]])
    borrowed = {phrase for n in range(50) for _, phrase in book.borrow(["dog"], [], random.Random(n))}
    assert borrowed == {"dog on left"}


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="proportional or uniform, got 'hard'"):
        NegativeSampler({"a": 1}, "hard")
    with pytest.raises(ValueError, match="no classes"):
        NegativeSampler({})
