"""Batched decoding with shared prefixes gives the answers of one question at a time, token by token."""

import pytest
import torch

from locvlm.model.generate import PromptGroup, answer_one, generate_answers

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
