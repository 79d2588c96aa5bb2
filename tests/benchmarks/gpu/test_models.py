import pytest
import torch

from locvlm.benchmarks.gpu.cases import Setup, config_of
from locvlm.benchmarks.gpu.models import build_model, choose_attention
from locvlm.benchmarks.gpu.optimizers import MasterAdamW, build_optimizer
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings

CPU = torch.device("cpu")


def test_a_model_made_on_its_device_has_the_buffers_of_one_made_as_usual():
    made = dict(build_model(Setup(variant="toy", stage="stage2"), CPU).named_buffers())
    usual = dict(LocVLM(config_of("toy")).named_buffers())
    assert made.keys() == usual.keys()
    assert made
    for name, buffer in usual.items():
        assert torch.equal(made[name], buffer), name
        assert made[name].dtype == buffer.dtype  # rotary frequencies stay fp32


@pytest.mark.parametrize(
    ("setup", "trained"),
    [
        (Setup(variant="toy", stage="stage1"), {"multi_modal_projector"}),
        (Setup(variant="toy", stage="stage2"), {"multi_modal_projector", "language_model", "lm_head"}),
        (Setup(variant="toy", stage="stage2", lora=LoraSettings(rank=4)), {"multi_modal_projector", "lora"}),
    ],
)
def test_what_trains_is_what_the_stage_trains(setup, trained):
    model = build_model(setup, CPU)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    parts = ("multi_modal_projector", "lora", "language_model", "lm_head", "vision_tower")
    assert {next(part for part in parts if part in name) for name in names} == trained
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has these")
def test_what_needs_a_gpu_says_so_on_a_cpu():
    with pytest.raises(ValueError, match="liger_kernels needs a CUDA GPU"):
        build_model(Setup(variant="toy", stage="stage2", liger=True), CPU)
    with pytest.raises(ValueError, match="no backward pass on a CPU"):
        choose_attention(build_model(Setup(variant="toy", stage="stage1"), CPU), "flex_attention")
    with pytest.raises(ValueError, match="8-bit states need a CUDA GPU"):
        build_optimizer("8bit", [torch.nn.Parameter(torch.ones(2))])


def test_masters_step_as_adamw_on_fp32_weights_does(monkeypatch):
    monkeypatch.setattr("locvlm.benchmarks.gpu.optimizers._CHUNK", 10)  # several chunks
    torch.manual_seed(0)
    exact = [torch.nn.Parameter(torch.randn(4, 3).bfloat16().float()) for _ in range(3)]
    ours = [torch.nn.Parameter(parameter.detach().bfloat16()) for parameter in exact]
    plain, masters = torch.optim.AdamW(exact, lr=0.1), MasterAdamW(ours)
    for _, _, optimizer in masters._chunks:
        optimizer.param_groups[0]["lr"] = 0.1
    for _ in range(5):
        for one, other in zip(exact, ours, strict=True):
            other.grad = torch.randn(4, 3).bfloat16()
            one.grad = other.grad.float()
        plain.step()
        masters.step()
        masters.zero_grad()
    assert len(masters._chunks) == 3
    assert all(parameter.grad is None for parameter in ours)
    for one, other in zip(exact, ours, strict=True):
        # fused and plain AdamW round in another order, and bf16 keeps 8 bits
        assert torch.allclose(one, other.float(), rtol=2**-8, atol=1e-6)


def test_the_learning_rate_is_zero():
    weight = torch.nn.Parameter(torch.randn(8).bfloat16())
    before = weight.detach().clone()
    for name in ("fp32", "bf16"):
        optimizer = build_optimizer(name, [weight])
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert torch.equal(weight, before)
