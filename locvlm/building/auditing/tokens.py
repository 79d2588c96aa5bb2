"""How long samples are for the language model, by the tokenization of training."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from locvlm.building.auditing.entries import Entry
from locvlm.coords.contract import CoordinateContract
from locvlm.data.tokenize import TokenizedSample, tokenize_samples
from locvlm.io import Ledger
from locvlm.records import Sample

_BATCH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Tokens of every sample.

    packed   as a packed row holds it: what all its dialogues share once, then the dialogues
    longest  its longest dialogue alone, which a model has to have positions for
    """

    packed: NDArray[np.int64]  # (N,)
    longest: NDArray[np.int64]  # (N,)
    ledger: Ledger  # samples that could be tokenized, and others


def measure_tokens(
    entries: Iterable[Entry],
    tokenizer: PreTrainedTokenizerBase,
    *,
    contract: CoordinateContract,
    conversation: str,
    num_frames: int,
) -> Lengths:
    """The lengths of all entries with something to ask; what cannot be tokenized is counted.

    Args:
        num_frames: of a video, which takes a token each and those of a picture.
    """
    num_image = (contract.canvas // contract.patch) ** 2
    packed, longest, ledger = [], [], Ledger("samples")

    def tokenized(samples: list[Sample]) -> list[TokenizedSample]:
        return tokenize_samples(
            samples, tokenizer, conversation, num_image, num_video_tokens=num_image + num_frames
        )

    for samples in _batches(entry.as_sample(contract) for entry in entries):
        for item in _tokenized(samples, tokenized, ledger):
            branches = [len(branch.ids) for branch in item.branches]
            packed.append(len(item.prefix_ids) + sum(branches))
            longest.append(len(item.prefix_ids) + max(branches))
    return Lengths(
        packed=np.array(packed, dtype=np.int64), longest=np.array(longest, dtype=np.int64), ledger=ledger
    )


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    asked = iter(sample for sample in samples if sample.branches)
    while batch := list(islice(asked, _BATCH)):
        yield batch


def _tokenized(
    samples: list[Sample], tokenized: Callable[[list[Sample]], list[TokenizedSample]], ledger: Ledger
) -> Iterator[TokenizedSample]:
    """One by one only where a batch does not go through."""
    try:
        done = tokenized(samples)
    except ValueError:
        for sample in samples:
            try:
                (one,) = tokenized([sample])
            except ValueError as error:
                ledger.drop(sample.id, "cannot be tokenized", str(error))
            else:
                ledger.keep()
                yield one
    else:
        ledger.keep(len(done))
        yield from done
