"""The last decoder layer of packed rows: what follows its attention is computed at supervised rows alone.

Of the language model's output, the loss reads the states that predict a target and no other. The keys and
values of the last layer must see all tokens; its residual, its second norm, its MLP and the final norm then
need these states only, two thirds of the layer's work at a fifth of the tokens. The layer is stock but for
that, and so are its weights; which rows are wanted comes with the call, so that a recomputation under
activation checkpointing has them, too.
"""

# R rows, L tokens per row, D model width, T supervised tokens

from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


class TargetRowsLayer(LlamaDecoderLayer):
    """A stock layer that goes on at `target_rows` alone, where it is given them.

    Its parts are called as modules, whatever stands in their places: LoRA, fused kernels, quantized layers,
    ZeRO-3's partitioned ones.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        *args: Any,
        target_rows: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(R, L, D) -> (R, L, D); with `target_rows` (T,), places among the R * L tokens, -> (1, T, D)."""
        if target_rows is None:
            everywhere: torch.Tensor = super().forward(hidden_states, *args, **kwargs)
            return everywhere
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), *args, **kwargs)
        rows = (hidden_states.flatten(0, 1)[target_rows] + attended.flatten(0, 1)[target_rows])[None]
        narrow: torch.Tensor = rows + self.mlp(self.post_attention_layernorm(rows))
        return narrow


def narrow_last_layer(language_model: Any) -> None:
    """Have the last layer take `target_rows`, in place, if it is LLaMA's; others compute all rows."""
    last = language_model.layers[-1] if len(language_model.layers) else None  # none: a tower by itself
    if type(last) is LlamaDecoderLayer:
        last.__class__ = TargetRowsLayer  # type: ignore[assignment]  # nothing but `forward` differs


def widen_last_layer(language_model: Any) -> None:
    """Back to the stock layer, in place: the plain twin, which computes all rows."""
    last = language_model.layers[-1]
    if type(last) is TargetRowsLayer:
        last.__class__ = LlamaDecoderLayer  # type: ignore[assignment]


def is_narrow(language_model: Any) -> bool:
    """Whether the last layer takes `target_rows`."""
    return isinstance(language_model.layers[-1], TargetRowsLayer)
