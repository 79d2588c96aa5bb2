"""A shared-prefix step is the same pairs as samples of their own: logits, loss, every parameter's gradient.

Trees, rows and batches come from the data room's own packing and collation; only the token ids are made up.
"""

import inspect

import numpy as np
import pytest
import torch

from locvlm.data.collate import collate
from locvlm.data.packing import PackingConfig, plan_step
from locvlm.data.tokenize import Branch, TokenizedSample
from locvlm.model import locvlm as locvlm_module
from locvlm.model.attention import tree_mask
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM

IMAGE = [60] * 4
PAD = 61
TOLERANCE = 1e-10  # relative, in fp64


def dialogue(*question_and_answer: tuple[int, int], start: int) -> Branch:
    """A branch of (question length, answer length) turns with ids counted up from `start`."""
    supervised = tuple(flag for q, a in question_and_answer for flag in [False] * q + [True] * a)
    return Branch(ids=[start + i for i in range(len(supervised))], supervised=supervised)


def vicuna_like(name: str, start: int) -> TokenizedSample:
    """System sentence and image, then three dialogues, one of them of two turns."""
    return TokenizedSample(
        id=name,
        prefix_ids=[1, 3, 4, *IMAGE],
        branches=(
            dialogue((3, 2), start=start),
            dialogue((1, 4), (2, 3), start=start + 5),
            dialogue((4, 1), start=start + 9),
        ),
        num_images=1,
    )


def five_captions(name: str, start: int) -> TokenizedSample:
    """`plain`: everything after the image is supervised; all five first tokens hang on one shared state."""
    branches = tuple(dialogue((0, length), start=start + length) for length in (3, 5, 2, 4, 6))
    return TokenizedSample(id=name, prefix_ids=[1, *IMAGE], branches=branches, num_images=1)


def text_only(name: str, start: int) -> TokenizedSample:
    return TokenizedSample(
        id=name,
        prefix_ids=[1],
        branches=(dialogue((2, 2), start=start), dialogue((3, 4), start=start + 7)),
        num_images=0,
    )


STEPS = {
    "one image, dialogues": [vicuna_like("a", 5)],
    "one image, five captions": [five_captions("a", 5)],
    "two images": [vicuna_like("a", 5), vicuna_like("b", 20)],
    "captions of three images": [five_captions("a", 5), five_captions("b", 20), five_captions("c", 33)],
    "text only": [text_only("a", 5)],
    "all kinds": [vicuna_like("a", 5), text_only("b", 11), five_captions("c", 20), vicuna_like("d", 30)],
}


def batch_of(samples: list[TokenizedSample], mode: str, num_rows: int) -> dict:
    plan = plan_step(
        samples, PackingConfig(mode=mode, max_row_tokens=256), accumulation=1, rows_per_accumulation=num_rows,
        pad_token_id=PAD,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    pixels = {index: rng.standard_normal((3, 8, 8), dtype=np.float32) for index in range(len(samples))}
    return collate(plan.passes[0], pixels=pixels, pad_token_id=PAD, num_targets=plan.num_targets)


def run(model: LocVLM, batch: dict) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Loss, logits sorted by target (rows order trees differently) without those of fillers, gradients."""
    model.zero_grad()
    output = model(**batch, return_logits=True)
    output.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    keyed = torch.cat([batch["target_ids"][:, None].double(), output.logits.detach()], dim=1)
    keyed = keyed[batch["target_weights"] > 0]
    order = sorted(range(len(keyed)), key=lambda i: [round(value, 6) for value in keyed[i].tolist()])
    return output.loss.detach(), keyed[order], gradients


def worst_difference(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest relative difference of a gradient, over the tensors.

    A key's bias shifts all scores of a query alike, so its gradient is zero but for rounding: hence the
    floor.
    """
    assert got.keys() == expected.keys()
    floor = 1e-5 * max(gradient.norm() for gradient in expected.values())
    return max(
        float((got[name] - expected[name]).norm() / max(expected[name].norm(), floor)) for name in expected
    )


@pytest.fixture(params=["linear", "mlp"])
def model(request, build_model) -> LocVLM:
    model = build_model(request.param)
    freeze(
        model, train=("vision_tower", "adapter", "llm")
    )  # every parameter's gradient, the tower's included
    return model


@pytest.mark.parametrize("num_rows", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
def test_a_shared_prefix_step_equals_its_pairs_as_separate_samples(model, step, num_rows):
    samples = STEPS[step]
    num_pairs = sum(len(sample.branches) for sample in samples)
    shared = batch_of(samples, "shared_prefix", num_rows)
    separate = batch_of(samples, "separate", num_pairs)  # one pair a row: nothing left to mix up
    assert (separate["sample_ids"] <= 0).all()
    assert shared["target_weights"].sum() == separate["target_ids"].numel() == shared["num_targets"] > 0

    loss, logits, gradients = run(model, shared)
    plain_loss, plain_logits, plain_gradients = run(model, separate)
    assert abs(loss - plain_loss) <= TOLERANCE * abs(plain_loss)
    assert (logits - plain_logits).norm() <= TOLERANCE * plain_logits.norm()
    assert worst_difference(gradients, plain_gradients) <= TOLERANCE
    has_image = any(sample.num_images for sample in samples)
    trained = {name for name, _ in model.named_parameters() if _reaches_the_loss(model, name, has_image)}
    assert trained == set(gradients)


def _reaches_the_loss(model: LocVLM, name: str, has_image: bool) -> bool:
    """Parameters above the layer that is read have no gradient; nor have tower and adapter without an image;
    nor has a linear adapter's second layer."""
    if "vision_tower" in name:
        return has_image and "encoder.layers.2." not in name and "post_layernorm" not in name
    is_identity = "projector.linear_2" in name and model.config.projector_hidden_act == "linear"
    return (has_image and not is_identity) if "projector" in name else True


@pytest.mark.parametrize("step", STEPS)
def test_the_plain_samples_are_what_the_stock_class_trains(model, step):
    """Ties the packed forward to stock LLaVA: one pair a row, shifted labels, no mask, no positions."""
    total, num_targets = torch.zeros((), dtype=torch.float64), 0
    rng = np.random.default_rng(0)
    for sample in STEPS[step]:
        pixels = torch.from_numpy(rng.standard_normal((3, 8, 8), dtype=np.float32))[None]
        for branch in sample.branches:
            labels = [-100] * len(sample.prefix_ids)
            labels += [
                token if flag else -100 for token, flag in zip(branch.ids, branch.supervised, strict=True)
            ]
            logits = model(
                input_ids=torch.tensor([sample.prefix_ids + branch.ids]),
                pixel_values=pixels if sample.num_images else None,
            ).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(
                logits, torch.tensor(labels[1:]), reduction="sum"
            )
            num_targets += sum(branch.supervised)
    model.zero_grad()
    (total / num_targets).backward()
    stock_gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    loss, _, gradients = run(model, batch_of(STEPS[step], "shared_prefix", 1))
    assert abs(loss - total / num_targets) <= TOLERANCE * abs(loss)
    assert worst_difference(gradients, stock_gradients) <= TOLERANCE


def causal_mask(sample_ids: torch.Tensor, branch_ids: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    return tree_mask(torch.zeros_like(sample_ids), torch.zeros_like(branch_ids), dtype=dtype)


def samples_but_no_branches(
    sample_ids: torch.Tensor, branch_ids: torch.Tensor, *, dtype: torch.dtype
) -> torch.Tensor:
    return tree_mask(sample_ids, torch.zeros_like(branch_ids), dtype=dtype)


@pytest.mark.parametrize("wrong_mask", [causal_mask, samples_but_no_branches])
@pytest.mark.parametrize("step", STEPS)
def test_a_plain_causal_mask_is_found_out(model, step, wrong_mask, monkeypatch):
    samples = STEPS[step]
    shared = batch_of(samples, "shared_prefix", 1)
    loss, logits, gradients = run(model, shared)
    monkeypatch.setattr(locvlm_module, "tree_mask", wrong_mask)
    wrong_loss, wrong_logits, wrong_gradients = run(model, shared)
    assert abs(loss - wrong_loss) > 1e-4 * abs(loss)
    assert (logits - wrong_logits).norm() > 1e-2 * logits.norm()
    assert worst_difference(wrong_gradients, gradients) > 1e-2


def test_positions_that_do_not_restart_are_found_out(model):
    shared = batch_of(STEPS["two images"], "shared_prefix", 1)
    _, logits, _ = run(model, shared)
    running = {**shared, "position_ids": torch.arange(shared["input_ids"].shape[1])[None]}
    assert (logits - run(model, running)[1]).norm() > 1e-2 * logits.norm()


def test_a_batchs_keys_are_keywords_of_forward():
    parameters = inspect.signature(LocVLM.forward).parameters
    batch = batch_of(STEPS["all kinds"], "shared_prefix", 2)
    assert set(batch) <= set(parameters)
    packed = {name for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY} - {
        "return_logits"
    }
    assert packed | {"input_ids", "position_ids", "pixel_values"} == set(batch)
