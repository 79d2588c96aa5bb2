"""Batched decoding with shared prefixes gives the answers of one question at a time, token by token."""

import random

import pytest
import torch
from transformers import GenerationConfig

from locvlm.model.generate import Draw, answer_one, generate_answers
from locvlm.model.shared_prefix import PromptGroup

IMAGE = (60,) * 4
EOS, PAD = 2, 61
OPTIONS = {"eos_token_id": EOS, "pad_token_id": PAD, "max_new_tokens": 12}


def image(seed: int) -> torch.Tensor:
    return torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uneven_groups() -> list[PromptGroup]:
    """Prefixes of 5, 8, 2 and 6 tokens; 3, 1, 2 and 2 questions of 1 to 5 tokens; text only in between."""
    return [
        PromptGroup(
            pixel_values=image(1), prompts=((1, *IMAGE, 5, 6), (1, *IMAGE, 7, 8, 9, 10, 11), (1, *IMAGE, 12))
        ),
        PromptGroup(pixel_values=image(2), prompts=((1, 20, 21, *IMAGE, 22, 23),)),
        PromptGroup(pixel_values=None, prompts=((1, 30, 31), (1, 30, 32, 33))),
        PromptGroup(pixel_values=image(3), prompts=((1, *IMAGE, 40, 41), (1, *IMAGE, 40, 42, 43))),
    ]


def mixed_groups(num_questions: int) -> list[PromptGroup]:
    """Groups of 1 to 13 questions of 1 to 19 tokens, a fifth without an image, after 1 to 10 common ones."""
    rng, groups, left = random.Random(0), [], num_questions
    while left:
        size = min(left, rng.choice((1, 1, 2, 3, 5, 8, 13)))
        left -= size
        pixels = image(left) if rng.random() < 0.8 else None
        head = (1, *rng.choices(range(3, 58), k=rng.randint(0, 5)), *(IMAGE if pixels is not None else ()))
        prompts = tuple((*head, *rng.choices(range(3, 58), k=rng.randint(1, 19))) for _ in range(size))
        groups.append(PromptGroup(pixel_values=pixels, prompts=prompts))
    return groups


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_batched_answers_equal_those_of_one_prompt_alone(build_model, attention, seed):
    model = build_model(attention=attention, exact=attention == "sdpa", seed=seed).eval()
    groups = uneven_groups()
    expected = [
        [
            answer_one(model, prompt, g.pixel_values, eos_token_id=EOS, max_new_tokens=12)
            for prompt in g.prompts
        ]
        for g in groups
    ]
    assert generate_answers(model, groups, **OPTIONS) == expected
    assert [generate_answers(model, [group], **OPTIONS)[0] for group in groups] == expected
    assert (
        len({tuple(answer) for answers in expected for answer in answers}) > 4
    )  # not all the same by chance


def test_500_mixed_questions_get_the_answers_of_batch_size_1(build_model):
    model = build_model().eval()
    groups = mixed_groups(500)
    options = {**OPTIONS, "max_new_tokens": 6}
    expected = [
        [answer_one(model, p, g.pixel_values, eos_token_id=EOS, max_new_tokens=6) for p in g.prompts]
        for g in groups
    ]
    assert generate_answers(model, groups, **options) == expected
    answers = [tuple(answer) for of_group in expected for answer in of_group]
    assert len(answers) == 500
    assert len(set(answers)) > 400
    assert min(map(len, answers)) < 3  # some end early, in a batch that goes on


def test_answered_questions_leave_the_batch(build_model):
    model = build_model().eval()
    free = generate_answers(model, uneven_groups(), **OPTIONS)
    first = [answer[0] for answers in free for answer in answers]
    end = max(set(first), key=first.count)  # some answers are empty then
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    cut = generate_answers(model, uneven_groups(), **{**OPTIONS, "eos_token_id": end})
    waiting = [sum(len(a) > step for answers in cut for a in answers) for step in range(len(rows) - 2)]
    assert rows[:2] == [4, 8]  # the prefixes, all questions
    assert rows[-1] < 8
    for step, waits in enumerate(waiting):
        assert waits <= rows[step + 2] <= max(waits / 0.75, waits + 1)


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_search_from_the_shared_prefix_equals_that_of_one_prompt_alone(build_model, beams):
    model = build_model().eval()
    settings = GenerationConfig(
        num_beams=beams, max_new_tokens=12, eos_token_id=EOS, pad_token_id=PAD, suppress_tokens=[IMAGE[0]]
    )

    def alone(prompt, pixels):
        ids = torch.tensor([prompt])
        images = None if pixels is None else pixels[None]
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=images,
            generation_config=settings,
        )[0, len(prompt) :].tolist()
        return found[: found.index(EOS)] if EOS in found else found

    groups = mixed_groups(24)
    expected = [[alone(prompt, g.pixel_values) for prompt in g.prompts] for g in groups]
    assert generate_answers(model, groups, **OPTIONS, beams=beams) == expected
    assert generate_answers(model, groups, **OPTIONS) != expected


def test_answers_end_before_the_end_token_and_at_the_limit(build_model):
    model = build_model().eval()
    free = generate_answers(model, uneven_groups(), **OPTIONS)
    assert all(len(answer) == 12 for answers in free for answer in answers if EOS not in answer)
    end = free[0][0][3]  # declare some token of an answer the end
    cut = generate_answers(model, uneven_groups(), **{**OPTIONS, "eos_token_id": end})
    for answers, cut_answers in zip(free, cut, strict=True):
        for answer, cut_answer in zip(answers, cut_answers, strict=True):
            assert cut_answer == (answer[: answer.index(end)] if end in answer else answer)
    assert len(cut[0][0]) <= 3


def test_every_image_is_encoded_once_and_the_prefix_read_once(build_model):
    model = build_model().eval()
    calls: list[tuple[int, int]] = []
    model.model.vision_tower.embeddings.register_forward_hook(
        lambda _, args, __: calls.append(tuple(args[0].shape[:1]))
    )
    lengths: list[tuple[int, ...]] = []
    model.model.language_model.norm.register_forward_hook(
        lambda _, args, __: lengths.append(tuple(args[0].shape[:2]))
    )
    generate_answers(model, uneven_groups(), **OPTIONS)
    assert calls == [(3,)]
    assert lengths[0] == (4, 8)  # one row per group
    assert lengths[1][0] == 8  # then one row per question


def test_sampling_repeats_with_its_seed_and_differs_with_another(build_model):
    model = build_model().eval()
    state = torch.random.get_rng_state()
    draw = [
        generate_answers(model, uneven_groups(), **OPTIONS, temperature=5.0, seed=seed) for seed in (1, 1, 2)
    ]
    assert draw[0] == draw[1] != draw[2]
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws are disturbed


def test_what_is_drawn_does_not_depend_on_what_else_is_in_the_batch(build_model):
    model = build_model().eval()
    groups = mixed_groups(40)
    options = {**OPTIONS, "temperature": 2.0, "seed": 3}
    together = generate_answers(model, groups, **options)
    assert [generate_answers(model, [group], **options)[0] for group in groups] == together
    one_by_one = [
        [
            generate_answers(model, [PromptGroup(pixel_values=g.pixel_values, prompts=(p,))], **options)[0][0]
            for p in g.prompts
        ]
        for g in groups
    ]
    assert one_by_one == together
    assert generate_answers(model, groups, **OPTIONS) != together


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = 2 * torch.randn(20, generator=torch.Generator().manual_seed(0))
    logits[7] = -torch.inf
    likely, number = (logits.double() / 3).softmax(dim=0), 20_000
    prompts = tuple((1, *divmod(index, 1000)) for index in range(number))
    draw = Draw([PromptGroup(pixel_values=None, prompts=prompts)], temperature=3.0, seed=0)
    counts = draw(logits.expand(number, -1), range(number)).bincount(minlength=20)
    assert counts[7] == 0
    # a count's standard deviation is sqrt(n p (1 - p)); of 20 counts none is 4.5 of them off by chance
    deviation = (number * likely * (1 - likely)).sqrt()
    assert ((counts - number * likely).abs() <= 4.5 * deviation).all()
    again = draw(logits.expand(number, -1), range(number)).bincount(minlength=20)
    assert not torch.equal(again, counts)  # the next tokens have numbers of their own


def test_no_groups_give_no_answers_and_broken_groups_are_refused(build_model):
    model = build_model().eval()
    assert generate_answers(model, [], **OPTIONS) == []
    for prompts, pixels, message in [
        ((), image(1), "needs a prompt"),
        (((1,),), None, "two tokens"),
        (((1, *IMAGE, 5), (1, 9, *IMAGE, 5)), image(1), "equal up to the end of the image"),
        (((1, *IMAGE, 5),), None, "without pixel_values"),
        (((1, 4, 5),), image(1), "without image tokens"),
    ]:
        with pytest.raises(ValueError, match=message):
            generate_answers(model, [PromptGroup(pixel_values=pixels, prompts=prompts)], **OPTIONS)
