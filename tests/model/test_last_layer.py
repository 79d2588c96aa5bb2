"""A last layer that goes on at supervised rows alone trains as the stock layer does, whatever is in it."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from locvlm.constants import NO_SAMPLE
from locvlm.model.freeze import freeze
from locvlm.model.last_layer import TargetRowsLayer, is_narrow, narrow_last_layer, widen_last_layer
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings, apply_lora

EXACT = {"rtol": 1e-12, "atol": 1e-15}
IMAGE = [60] * 4


def two_rows(*, with_targets: bool = True) -> dict:
    """An image with two branches that start from one state; two texts. Two states predict twice."""
    ids = [[1, *IMAGE, 5, 6, 7, 8, 9], [1, 10, 11, 12, 1, 13, 14, 15, 61, 61]]
    targets = [4, 5, 4, 7, 8, 11, 12, 15, 16] if with_targets else []
    generator = torch.Generator().manual_seed(0)
    number = len(targets)
    return {
        "input_ids": torch.tensor(ids),
        "pixel_values": torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64),
        "position_ids": torch.tensor([[0, 1, 2, 3, 4, 5, 6, 5, 6, 7], [0, 1, 2, 3, 0, 1, 2, 3, 0, 0]]),
        "sample_ids": torch.tensor([[0] * 10, [0] * 4 + [1] * 4 + [NO_SAMPLE] * 2]),
        "branch_ids": torch.tensor([[0] * 5 + [1, 1, 2, 2, 2], [0, 1, 1, 1, 0, 1, 1, 1, 0, 0]]),
        "target_index": torch.tensor(targets, dtype=torch.long),
        "target_ids": torch.randint(3, 60, (number,), generator=generator),
        "target_weights": torch.rand(number, generator=generator, dtype=torch.float64),
        "num_targets": 7.0,
    }


def with_lora(model: LocVLM) -> None:
    apply_lora(model, LoraSettings(rank=2, dropout=0.0))
    model.double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide a gradient of lora_A
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    freeze(model, train=("adapter", "lora"))


def checkpointed(reentrant: bool) -> Callable[[LocVLM], None]:
    def change(model: LocVLM) -> None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})

    return change


def checkpointed_lora(model: LocVLM) -> None:
    with_lora(model)
    checkpointed(False)(model)


def compiled(model: LocVLM) -> None:
    torch.compiler.reset()
    for block in model.model.language_model.layers:
        block.compile(backend="aot_eager")


class FusedMLP(nn.Module):
    """An MLP whose activation has a backward pass of its own, as Liger's has, and which flattens its rows."""

    class Gate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, gate, up):
            ctx.save_for_backward(gate, up)
            return nn.functional.silu(gate) * up

        @staticmethod
        def backward(ctx, gradient):
            gate, up = ctx.saved_tensors
            sigmoid = gate.sigmoid()
            slope = sigmoid * (1 + gate * (1 - sigmoid))
            return gradient * up * slope, gradient * gate * sigmoid

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        flat = hidden.view(-1, hidden.shape[-1])
        return self.down_proj(self.Gate.apply(self.gate_proj(flat), self.up_proj(flat))).view(hidden.shape)


def with_fused_mlp(model: LocVLM) -> None:
    for block in model.model.language_model.layers:
        block.mlp = FusedMLP(block.mlp)


VARIANTS: dict[str, tuple[str, Callable[[LocVLM], None]]] = {
    "sdpa": ("sdpa", lambda model: None),
    "eager": ("eager", lambda model: None),
    "tree": ("tree", lambda model: None),
    "checkpointed": ("sdpa", checkpointed(False)),
    "checkpointed, reentrant": ("sdpa", checkpointed(True)),
    "tree, checkpointed": ("tree", checkpointed(False)),
    "lora": ("sdpa", with_lora),
    "lora, checkpointed": ("tree", checkpointed_lora),
    "blocks compiled": ("sdpa", compiled),
    "mlp fused": ("sdpa", with_fused_mlp),
}


def outcome(model: LocVLM, batch: dict) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Loss, logits, gradients."""
    model.zero_grad()
    output = model(**batch, return_logits=True)
    output.loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return output.loss.detach(), output.logits.detach(), gradients


def pair_of(build_model, variant: str) -> tuple[LocVLM, LocVLM]:
    """The model, and its plain twin."""
    attention, change = VARIANTS[variant]
    models = build_model(attention=attention), build_model(attention=attention)
    for model in models:
        freeze(model, train=("adapter", "llm"))
        change(model.train())
    widen_last_layer(models[1].model.language_model)
    return models


@pytest.mark.parametrize("with_targets", [True, False], ids=["targets", "no target"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_all_gradients_are_those_of_the_model_without_it(build_model, variant, with_targets):
    narrow, plain = pair_of(build_model, variant)
    assert is_narrow(narrow.model.language_model)
    assert not is_narrow(plain.model.language_model)
    batch = two_rows(with_targets=with_targets)
    loss, logits, gradients = outcome(narrow, batch)
    plain_loss, plain_logits, plain_gradients = outcome(plain, batch)
    torch.testing.assert_close(loss, plain_loss, **EXACT)
    torch.testing.assert_close(logits, plain_logits, **EXACT)
    trained = {name for name, parameter in narrow.named_parameters() if parameter.requires_grad}
    assert gradients.keys() == plain_gradients.keys() == trained
    # some gradients are small sums of large numbers: 1e-12 of the largest
    scale = max(float(gradient.abs().max()) for gradient in plain_gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], rtol=1e-12, atol=1e-12 * scale)
        assert gradient.any() == with_targets, name


def test_flex_attention_gives_the_same_loss(build_model):
    """Forward alone: on a CPU it has no backward pass."""
    narrow, plain = (build_model(exact=False, attention="flex_attention").eval() for _ in range(2))
    widen_last_layer(plain.model.language_model)
    batch = two_rows() | {"pixel_values": two_rows()["pixel_values"].float()}
    with torch.no_grad():
        torch.testing.assert_close(narrow(**batch).loss, plain(**batch).loss, rtol=1e-6, atol=0)


def test_what_follows_attention_sees_supervised_rows_alone(build_model):
    model = build_model()
    seen = {}
    language = model.model.language_model
    watched = {"before": language.layers[0].mlp, "mlp": language.layers[1].mlp, "norm": language.norm}
    for name, module in watched.items():
        module.register_forward_hook(lambda _, args, __, name=name: seen.update({name: args[0].shape[:2]}))
    batch = two_rows()
    model(**batch)
    assert seen == {"before": (2, 10), "mlp": (1, 9), "norm": (1, 9)}
    model(input_ids=batch["input_ids"][1:])  # the stock keywords
    assert seen == {"before": (1, 10), "mlp": (1, 10), "norm": (1, 10)}


def test_the_last_layer_is_stock_but_for_its_forward(build_model):
    model = build_model()
    layer = model.model.language_model.layers[-1]
    assert type(layer) is TargetRowsLayer
    assert type(layer).__name__ in model._no_split_modules  # spread over devices by whole layers
    copied = copy.deepcopy(model)
    assert is_narrow(copied.model.language_model)
    widen_last_layer(copied.model.language_model)
    assert type(copied.model.language_model.layers[-1]) is LlamaDecoderLayer
    assert copied.state_dict().keys() == model.state_dict().keys()
    narrow_last_layer(copied.model.language_model)
    assert is_narrow(copied.model.language_model)
