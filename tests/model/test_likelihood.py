"""Likelihoods in batches are those of one prompt alone, and minus the loss of the answer in training."""

import random

import pytest
import torch

from locvlm.model.likelihood import answer_likelihoods, likelihood_of_one
from locvlm.model.shared_prefix import PromptGroup

IMAGE, PAD = (60,) * 4, 61


def answered_groups() -> list[PromptGroup]:
    """Ten groups of 1 to 6 prompts, half of them about an image, with answers of 1 to 7 tokens."""
    rng, groups = random.Random(0), []
    for index in range(10):
        pixels = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        head = (1, 20, *IMAGE) if index % 2 else (1,)
        questions = [
            (*head, *rng.choices(range(3, 58), k=rng.randint(1, 9))) for _ in range(rng.randint(1, 6))
        ]
        prompts = tuple((*q, *rng.choices(range(3, 58), k=rng.randint(1, 7))) for q in questions)
        groups.append(
            PromptGroup(
                pixel_values=pixels if index % 2 else None,
                prompts=prompts,
                answer_starts=tuple(map(len, questions)),
            )
        )
    return groups


def test_likelihoods_in_batches_are_those_of_one_prompt_alone(build_model):
    model = build_model().eval()
    groups = answered_groups()
    found = answer_likelihoods(model, groups, pad_token_id=PAD)
    for group, of_group in zip(groups, found, strict=True):
        for prompt, start, nats in zip(group.prompts, group.answer_starts, of_group, strict=True):
            alone = likelihood_of_one(model, prompt, group.pixel_values, answer_start=start)
            assert nats == pytest.approx(alone, abs=1e-10)  # fp64
            assert nats < 0


def test_an_answers_likelihood_is_minus_its_loss_in_training(build_model):
    model = build_model().eval()
    groups = answered_groups()
    found = answer_likelihoods(model, groups, pad_token_id=PAD)
    for group, of_group in zip(groups[:4], found, strict=False):
        for prompt, start, nats in zip(group.prompts, group.answer_starts, of_group, strict=True):
            ids, pixels = torch.tensor([prompt]), group.pixel_values
            targets = range(start, len(prompt))
            loss = model(
                input_ids=ids,
                pixel_values=None if pixels is None else pixels[None],
                position_ids=torch.arange(len(prompt))[None],
                sample_ids=torch.zeros_like(ids),
                branch_ids=torch.zeros_like(ids),
                target_index=torch.tensor([place - 1 for place in targets]),
                target_ids=ids[0, start:],
                target_weights=torch.ones(len(targets), dtype=torch.float64),
                num_targets=1,
            ).loss
            assert nats == pytest.approx(-loss.item(), abs=1e-10)


def test_all_answers_of_one_token_add_up_to_certainty(build_model):
    model = build_model().eval()
    prompts = tuple((1, 30, 31, token) for token in range(64))
    [nats] = answer_likelihoods(
        model,
        [PromptGroup(pixel_values=None, prompts=prompts[:60] + prompts[61:], answer_starts=(3,) * 63)],
        pad_token_id=PAD,
    )
    image = model(input_ids=torch.tensor([[1, 30, 31]])).logits[0, -1].softmax(-1)[60].item()
    assert float(torch.tensor(nats, dtype=torch.float64).exp().sum()) + image == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("prompts", "starts", "message"),
    [
        (((1, 5, 6), (1, 5, 7)), (2,), "2 prompts and 1 answer_starts"),
        (((1, 5, 6),), (), "1 prompts and 0 answer_starts"),
        (((1, 5, 6),), (3,), "some tokens after the first two"),
        (((1, 5, 6),), (1,), "some tokens after the first two"),
    ],
)
def test_answers_that_are_none_are_refused(build_model, prompts, starts, message):
    group = PromptGroup(pixel_values=None, prompts=prompts, answer_starts=starts)
    with pytest.raises(ValueError, match=message):
        answer_likelihoods(build_model().eval(), [group], pad_token_id=PAD)
    assert answer_likelihoods(build_model().eval(), [], pad_token_id=PAD) == []
