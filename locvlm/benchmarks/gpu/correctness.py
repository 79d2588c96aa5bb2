"""Do all attention paths compute the same, on this device? Asked before anything is timed.

A small model, the same conversations, losses and all gradients against dense SDPA:

- in fp32 they may differ as sums in another order do: by 6e-7 of the gradients' length on a CPU, by some
  times that on a GPU. One pair of tokens that wrongly sees each other gives 4e-4; branches that do, 0.9.
- in bf16 a path may be as far from fp32's dense SDPA as bf16's dense SDPA is itself, times two.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from locvlm.benchmarks.gpu.batches import draw_conversations, make_step
from locvlm.benchmarks.gpu.bench import Attempt, attempt
from locvlm.benchmarks.gpu.cases import Attention, Workload, config_of
from locvlm.benchmarks.gpu.models import choose_attention, random_model
from locvlm.benchmarks.gpu.results import Status
from locvlm.benchmarks.gpu.steps import to_device
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM

_FP32_LOSS, _FP32_GRADIENT = 1e-5, 5e-5  # relative; gradients by the length of their difference
_BF16_TIMES = 2.0

PATHS: dict[str, tuple[Any, Attention]] = {  # how prefixes lie in rows, and the kernel
    "sdpa": ("shared_prefix", "sdpa"),
    "separate": ("separate", "sdpa"),
    "tree": ("shared_prefix", "tree"),
    "flex_attention": ("shared_prefix", "flex_attention"),
    "separate flex_attention": ("separate", "flex_attention"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One path against dense SDPA in fp32."""

    path: str
    dtype: str
    status: Status
    reason: str = ""
    loss_error: float | None = None  # relative
    gradient_error: float | None = None  # of all gradients as one vector, relative
    limit: float | None = None  # of the gradient's


@dataclass(frozen=True)
class _Outcome:
    loss: float
    gradients: torch.Tensor  # all of them in one vector, on the CPU, fp64


def check_paths(device: torch.device, paths: Collection[str] = tuple(PATHS)) -> list[Agreement]:
    """Each of `paths` in fp32 and bf16; one that fails says why, and the others go on."""
    torch.set_float32_matmul_precision("highest")  # no TF32
    model = random_model(config_of("toy"), device, torch.float32)
    freeze(model, train=("adapter", "llm"))
    reference = _run(model, device, "sdpa")

    def judge(dtype: str, limit: float) -> list[Agreement]:
        return [
            _judged(path, dtype, attempt(partial(_run, model, device, path), device), reference, limit)
            for path in PATHS
            if path in paths
        ]

    found = judge("fp32", _FP32_GRADIENT)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return found + judge("bf16", _BF16_TIMES * _gradient_error(_run(model, device, "sdpa"), reference))


def path_of(workload: Workload) -> str:
    """The path, of `PATHS`, that a workload takes."""
    path = (workload.mode, workload.attention)
    return next(name for name, (mode, attention) in PATHS.items() if (mode, attention) == path)


def wrong_paths(found: list[Agreement]) -> set[str]:
    """Paths that gave other losses or gradients: not worth a time."""
    return {agreement.path for agreement in found if agreement.status == "wrong"}


def to_json(found: list[Agreement]) -> list[dict[str, Any]]:
    """For the result file."""
    return [asdict(agreement) for agreement in found]


def line_of(agreement: Agreement) -> str:
    """One line about a path."""
    name = f"{agreement.path} in {agreement.dtype}"
    if agreement.gradient_error is None:
        return f"{name:32} {agreement.status}: {agreement.reason}"
    return (
        f"{name:32} {agreement.status}: loss off by {agreement.loss_error:.1e}, gradients by "
        f"{agreement.gradient_error:.1e} (at most {agreement.limit:.1e})"
    )


def _judged(path: str, dtype: str, tried: Attempt[_Outcome], reference: _Outcome, limit: float) -> Agreement:
    if tried.value is None:
        return Agreement(path=path, dtype=dtype, status=tried.status, reason=tried.reason)
    got = tried.value
    loss_error = abs(got.loss - reference.loss) / abs(reference.loss)
    error = _gradient_error(got, reference)
    is_right = error <= limit and (dtype != "fp32" or loss_error <= _FP32_LOSS)  # never true of a NaN
    return Agreement(
        path=path,
        dtype=dtype,
        status="ok" if is_right else "wrong",
        loss_error=loss_error,
        gradient_error=error,
        limit=limit,
    )


def _run(model: LocVLM, device: torch.device, path: str) -> _Outcome:
    mode, attention = PATHS[path]
    choose_attention(model, attention)
    conversations = draw_conversations(model.config, stage="stage2", number=4, pairs=4)
    batches = make_step(conversations, mode=mode, row_tokens=512, rows_per_pass=2)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.zero_grad()
    loss = 0.0
    for batch in batches:
        output = model(**to_device(batch, device, model.dtype))
        output.loss.backward()
        loss += float(output.loss.detach())
    flat = [
        parameter.grad.detach().double().flatten().cpu()
        for parameter in trained
        if parameter.grad is not None
    ]
    return _Outcome(loss, torch.cat(flat))


def _gradient_error(got: _Outcome, reference: _Outcome) -> float:
    return float((got.gradients - reference.gradients).norm() / reference.gradients.norm())
