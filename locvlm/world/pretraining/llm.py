"""How the tiny LLaMA is pretrained: next token, on text and on layouts pressed into vectors."""

# R rows, L tokens per row, M layout tokens, D width

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from locvlm.world.pretraining.documents import Document
from locvlm.world.pretraining.layout_tokens import LayoutEmbedder, LayoutToken
from locvlm.world.pretraining.loop import PretrainRun, train

ROW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Rows:
    """Documents in rows of one length."""

    ids: torch.Tensor  # (R, L + 1)
    weights: torch.Tensor  # (R, L + 1)
    slots: torch.Tensor  # (M, 2) row and column
    tokens: list[LayoutToken]  # M


def fill_rows(next_document: Callable[[], Document], length: int, rows: int) -> Rows:
    """Every row begins with a document; its last one is cut where the row ends.

    So no question has lost the layout that it is about, as the tail of a row carried over would have.
    """
    ids: list[list[int]] = []
    weights: list[list[float]] = []
    slots: list[tuple[int, int]] = []
    tokens: list[LayoutToken] = []
    for row in range(rows):
        row_ids: list[int] = []
        row_weights: list[float] = []
        while len(row_ids) <= length:
            document = next_document()
            for index, token in document.slots:
                if len(row_ids) + index < length:
                    slots.append((row, len(row_ids) + index))
                    tokens.append(token)
            row_ids += document.ids
            row_weights += document.weights
        ids.append(row_ids[: length + 1])
        weights.append(row_weights[: length + 1])
    return Rows(torch.tensor(ids), torch.tensor(weights), torch.tensor(slots).view(-1, 2), tokens)


def embed(
    model: Any,
    ids: torch.Tensor,
    slots: torch.Tensor,
    tokens: Sequence[LayoutToken],
    embedder: LayoutEmbedder,
) -> torch.Tensor:
    """Ids (R, L) with the layout tokens (M) in their slots (M, 2), as the model reads them: (R, L, D)."""
    embedding = model.get_input_embeddings()
    vectors = embedding(ids)
    if not tokens:
        return vectors
    pressed = embedder(embedding, tokens).to(vectors.dtype)
    return vectors.index_put((slots[:, 0], slots[:, 1]), pressed)


def embed_document(model: Any, document: Document, embedder: LayoutEmbedder) -> torch.Tensor:
    """One document, whole: (1, L, D)."""
    slots = torch.tensor([(0, index) for index, _ in document.slots]).view(-1, 2)
    tokens = [token for _, token in document.slots]
    return embed(model, torch.tensor([document.ids]), slots, tokens, embedder)


def train_llm(
    model: Any,
    next_document: Callable[[float], Document],
    embedder: LayoutEmbedder,
    run: PretrainRun,
    *,
    length: int = ROW_TOKENS,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Next-token training, each token with its document's weight; `run.batch` is rows a step.

    Args:
        next_document: share of the training that is done -> a document.
    """

    def loss_of_step(progress: float) -> tuple[torch.Tensor, str]:
        rows = fill_rows(lambda: next_document(progress), length, run.batch)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = embed(model, rows.ids[:, :-1], rows.slots, rows.tokens, embedder)
            logits = model(inputs_embeds=vectors, use_cache=False).logits
        losses = F.cross_entropy(logits.float().flatten(0, 1), rows.ids[:, 1:].flatten(), reduction="none")
        weights = rows.weights[:, 1:].flatten()
        return (losses * weights).sum() / weights.sum(), ""

    train(model, run, loss_of_step, save, "llm")
