"""Bytes by formula against those that autograd, an optimizer and DeepSpeed keep for the real model."""

from contextlib import nullcontext

import pytest
import torch

from locvlm.model.lora import LLAMA_PROJECTIONS, LoraSettings
from locvlm.model.variants import variant
from locvlm.training.plan.flops import Load, tokens_through
from locvlm.training.plan.memory import Zero, activation_bytes, state_bytes, usable_bytes
from locvlm.training.plan.shapes import Scope, count_parameters, shape_of

CLOSE = 0.02  # what is not counted: indices, counts of norms and the like
STAGE1, STAGE2 = Scope(stage="stage1"), Scope(stage="stage2")


def kept_bytes(case, *, autocast):
    """Bytes that a forward pass of the real model keeps for backward: each storage once, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in case.model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that its address is not used again
        return tensor

    context = torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), context:
        loss = case.model(**case.batch).loss
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


DTYPES = {"bf16": torch.bfloat16, "autocast": torch.float32, "fp32": torch.float32}


@pytest.mark.parametrize("adapter", ["mlp", "linear"])
@pytest.mark.parametrize("precision", ["bf16", "autocast", "fp32"])
@pytest.mark.parametrize("scope", [STAGE1, STAGE2], ids=["stage1", "stage2"])
def test_autograd_keeps_the_activations_of_the_formula(small_case, scope, precision, adapter):
    case = small_case(scope, adapter=adapter, dtype=DTYPES[precision])
    shape = shape_of(case.model.config)
    expected = activation_bytes(shape, case.load, scope=scope, precision=precision).kept
    parameters = count_parameters(case.model.config, scope)
    if precision == "autocast":
        expected += state_bytes(parameters, Zero(), precision, 1).buffers  # bf16 copies of weights
    assert kept_bytes(case, autocast=precision == "autocast") == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("attention", ["eager", "tree"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_attention_that_keeps_its_scores_is_counted_with_them(small_case, attention, precision):
    case = small_case(STAGE2, attention=attention, dtype=DTYPES[precision])
    shape = shape_of(case.model.config)
    kwargs = {"scope": STAGE2, "precision": precision}
    expected = activation_bytes(shape, case.load, attention=attention, **kwargs).kept
    assert kept_bytes(case, autocast=False) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_loss_takes_twelve_bytes_a_target_and_word(precision):
    """Log-probabilities, their gradient and that of the logits, in fp32 whatever the model is in."""
    shape = shape_of(variant("tiny"))
    load = Load(rows=1, row_tokens=8, images=0, targets=1000, pairs=64)
    found = activation_bytes(shape, load, scope=STAGE2, precision=precision)
    size = 2 if precision == "bf16" else 4
    # the last norm's input in fp32, before and after the gain: of the targets, too
    states = 1000 * (shape.width * (4 + 2 * size) + 4)
    assert found.logits == 12 * 1000 * shape.vocabulary
    assert found.working == 8 * 1000 * shape.vocabulary
    assert found.head - states == pytest.approx(4 * 1000 * shape.vocabulary, rel=0.01)


def test_grouped_heads_are_repeated_before_they_are_kept(small_case):
    case = small_case(STAGE2, kv_heads=2)
    shape = shape_of(case.model.config)
    expected = activation_bytes(shape, case.load, scope=STAGE2, precision="fp32").kept
    assert kept_bytes(case, autocast=False) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("targets", [LLAMA_PROJECTIONS, ("q_proj", "down_proj")], ids=["all", "two"])
@pytest.mark.parametrize("precision", ["bf16", "autocast", "fp32"])
def test_lora_keeps_what_goes_into_its_matrices(small_case, precision, targets):
    scope = Scope(stage="stage2", lora=LoraSettings(rank=8, dropout=0.0, targets=targets))
    case = small_case(scope, dtype=DTYPES[precision])
    shape = shape_of(case.model.config)
    expected = activation_bytes(shape, case.load, scope=scope, precision=precision).kept
    if precision == "autocast":
        expected += state_bytes(count_parameters(case.model.config, scope), Zero(), precision, 1).buffers
    assert kept_bytes(case, autocast=precision == "autocast") == pytest.approx(expected, rel=CLOSE)


def test_loras_dropout_keeps_a_copy_and_a_mask_for_each_layer(small_case):
    scope = Scope(stage="stage2", lora=LoraSettings(rank=8, dropout=0.1))
    case = small_case(scope)
    shape = shape_of(case.model.config)
    expected = activation_bytes(shape, case.load, scope=scope, precision="fp32").kept
    # a GPU's mask has a byte for each value, the one of a CPU four
    values = [tokens_through(shape, case.load, name) * ins for name, (ins, _) in shape.projections.items()]
    expected += 3 * sum(values)
    assert kept_bytes(case, autocast=False) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_checkpointing_keeps_the_inputs_of_blocks(small_case, precision):
    case = small_case(STAGE2, dtype=DTYPES[precision])
    # so that the inputs of blocks pass through the hooks; otherwise a closure holds them, as it does the mask
    case.model.gradient_checkpointing_enable({"use_reentrant": True})
    shape = shape_of(case.model.config)
    kwargs = {"scope": STAGE2, "precision": precision}
    whole, checkpointed = (
        activation_bytes(shape, case.load, checkpointing=on, **kwargs) for on in (False, True)
    )
    seen = checkpointed.kept - checkpointed.shared
    assert kept_bytes(case, autocast=False) == pytest.approx(seen, rel=CLOSE)
    assert checkpointed.shared == whole.shared
    assert checkpointed.blocks < whole.blocks / 5
    assert checkpointed.working > whole.working  # one block's activations come back


@pytest.mark.parametrize("scope", [STAGE1, STAGE2], ids=["stage1", "stage2"])
def test_a_real_step_of_adamw_leaves_the_states_of_the_formula(small_case, scope):
    case = small_case(scope)
    trained = [parameter for parameter in case.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    case.model(**case.batch).loss.backward()
    optimizer.step()
    states = state_bytes(count_parameters(case.model.config, scope), Zero(), "fp32", 1)
    assert sum(p.nbytes for p in case.model.parameters()) == states.weights
    assert sum(p.grad.nbytes for p in trained) == states.gradients
    moments = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    assert moments == pytest.approx(states.optimizer, rel=0.01)  # beside them a step count for each parameter


def test_a_7b_model_under_zero_takes_the_bytes_of_the_zero_paper(parameters_7b):
    """Rajbhandari et al. 2020, section 3.1: 2 + 2 + 12 bytes a parameter; here gradients are fp32: + 2."""
    billions = sum(part.trained for part in parameters_7b.values()) / 1e9
    frozen = sum(part.total - part.trained for part in parameters_7b.values()) / 1e9
    zero2 = state_bytes(parameters_7b, Zero(stage=2), "bf16", 8)
    assert zero2.device / 1e9 == pytest.approx(2 * frozen + (2 + 16 / 8) * billions)
    zero3 = state_bytes(parameters_7b, Zero(stage=3), "bf16", 8)
    assert zero3.device / 1e9 == pytest.approx((2 * frozen + 18 * billions) / 8)


def test_what_is_offloaded_leaves_the_accelerator_for_the_host(parameters_7b):
    here = state_bytes(parameters_7b, Zero(stage=3), "bf16", 8)
    away = state_bytes(parameters_7b, Zero(stage=3, offload_optimizer=True, offload_param=True), "bf16", 8)
    assert here.host == 0
    assert away.weights == away.gradients == away.optimizer == 0
    assert away.host == here.weights + here.gradients + here.optimizer


def test_a_plan_does_not_fill_the_memory_to_the_brim():
    assert 0.9 * 80e9 < usable_bytes(int(80e9)) < 80e9
