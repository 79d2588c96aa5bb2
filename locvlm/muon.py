"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al. 2024), fast on a CPU too.

The matrices of a network's blocks, and of an adapter, are stepped so that no direction is neglected;
everything else (embeddings, norms, biases, heads) is left to AdamW. With the update scaled to AdamW's usual
size (Liu et al. 2025, arXiv:2502.16982) both take the same learning rate and weight decay.

`torch.optim.Muon` does the same one matrix at a time in bfloat16, which takes seconds a step on a CPU; here
matrices of one shape are orthogonalised together, in float32. A test holds the two against each other.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic coefficients (Jordan et al. 2024)
NEWTON_SCHULZ_STEPS = 5
UPDATE_SIZE = 0.2  # root mean square of AdamW's updates, which Muon's are scaled to
# blocks, as transformers and open_clip name them, and the adapter's layers
_STEPPED = re.compile(r"\.(layers|resblocks)\.\d+\.|\bmulti_modal_projector\.")


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Singular values brought near 1, for (B, M, N) matrices at once; float32."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if is_tall else x


def muon_groups(
    model: torch.nn.Module, *, learning_rate: float, muon_learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for `Muon`: matrices of blocks and adapter, fused ones apart; other ones; vectors."""
    blocks: dict[str, list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim == 2 and _STEPPED.search(name):
            blocks["fused" if name.endswith("in_proj_weight") else "single"].append(parameter)
        else:
            blocks["decayed" if parameter.ndim > 1 else "plain"].append(parameter)
    matrices = {"lr": muon_learning_rate, "weight_decay": weight_decay, "muon": True}
    groups: list[dict[str, Any]] = [
        {"params": blocks["single"], **matrices},
        {"params": blocks["fused"], **matrices, "parts": 3},
        {"params": blocks["decayed"], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": blocks["plain"], "lr": learning_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Muon(torch.optim.AdamW):
    """AdamW, but Muon for the parameter groups with `muon: True`, which hold matrices (2-D).

    A group may say `parts: n`: its matrices are n on top of each other, as fused query, key and value are;
    and `momentum`, with Nesterov's look ahead. Options are AdamW's.

    Raises:
        ValueError: if a Muon group holds something else than matrices.
    """

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        super().__init__(
            [{"muon": False, "parts": 1, "momentum": 0.95, **group} for group in groups], **options
        )
        for group in self.param_groups:
            wrong = [tuple(p.shape) for p in group["params"] if group["muon"] and p.ndim != 2]
            if wrong:
                raise ValueError(f"Muon steps matrices; got parameters of shape {wrong}: leave them to AdamW")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """All matrices of one shape in one go."""
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for shape, parameters in by_shape.items():
            ahead = []
            for parameter in parameters:
                state, gradient = self.state[parameter], parameter.grad
                assert gradient is not None, "chosen by that above"
                if not state:
                    # AdamW, when it reads a saved state, looks for "step" in every parameter's
                    state.update(momentum=torch.zeros_like(parameter), step=torch.zeros(()))
                state["step"] += 1
                state["momentum"].lerp_(gradient, 1 - group["momentum"])
                ahead.append(gradient.lerp(state["momentum"], group["momentum"]))
            single = (len(parameters) * group["parts"], shape[0] // group["parts"], shape[1])
            updates = orthogonalize(torch.stack(ahead).float().view(single))
            size = group["lr"] * UPDATE_SIZE * max(single[1:]) ** 0.5
            for parameter, update in zip(parameters, updates.view(-1, *shape), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.to(parameter.dtype), alpha=-size)
