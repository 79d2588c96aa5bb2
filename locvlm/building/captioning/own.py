"""Our own checkpoints as captioners: a picture is encoded once for all its prompts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.checkpoints import fingerprint
from locvlm.answering.locvlm import LocVLMAnswerer, load_answerer
from locvlm.building.captioning.captioner import Answer, Prompted
from locvlm.coords.contract import CoordinateContract
from locvlm.io import read_json
from locvlm.model.adapter import WEIGHTS_FILE
from locvlm.model.lora import BASE_FILE

_RUN_CONFIG, _FINAL = "config.yaml", "final"  # of a run folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Where the weights are: a whole checkpoint, and the adapter that stage 1 trained for it, if any."""

    folder: Path
    adapter: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnCaptioner:
    """A checkpoint of this project, or an export of one."""

    name: str
    answerer: LocVLMAnswerer
    identity: Mapping[str, str]
    max_new_tokens: int
    prompts_per_batch: int

    @property
    def contract(self) -> CoordinateContract:
        """How it writes locations."""
        return self.answerer.contract

    def describe(self, batches: Iterable[Sequence[Prompted]]) -> Iterator[list[list[Answer]]]:
        """See `Captioner`."""
        for batch in batches:
            asked = [Asked(image=item.picture.image, questions=list(item.prompts)) for item in batch]
            texts = self.answerer.answer(asked, Decoding(max_new_tokens=self.max_new_tokens))
            yield [[self._answer(text) for text in of_picture] for of_picture in texts]

    def _answer(self, text: str) -> Answer:
        # The end token is gone from the text. What is as long as allowed, or one less for a space that was
        # stripped, was most likely cut.
        num_tokens = len(self.answerer.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Answer(text=text, is_cut_off=num_tokens >= self.max_new_tokens - 1)


def find_checkpoint(folder: Path) -> Checkpoint | None:
    """What a folder of ours holds; None if it is none.

    It may be a checkpoint (composed, of stage 2 with LoRA or without, or exported), a run folder, or an
    adapter-only folder of stage 1; the run's config.yaml then says which checkpoint it was trained in.

    Raises:
        ValueError: for a run without final weights, or an adapter whose checkpoint is not known or not there.
    """
    if (folder / "config.json").is_file():
        return Checkpoint(folder=folder) if read_json(folder / "config.json").get("locvlm") else None
    if (folder / BASE_FILE).is_file():
        return Checkpoint(folder=folder)
    if (folder / WEIGHTS_FILE).is_file():
        return Checkpoint(folder=_checkpoint_of(folder), adapter=folder)
    if (folder / _RUN_CONFIG).is_file():
        if not (folder / _FINAL).is_dir():
            raise ValueError(
                f"the run in {folder} has no final weights yet; let it end, or name one of its checkpoints"
            )
        return find_checkpoint(folder / _FINAL)
    return None


def load_own_captioner(
    found: Checkpoint, *, name: str, max_new_tokens: int, prompts_per_batch: int, dtype: str, device: str
) -> OwnCaptioner:
    """The captioner in memory.

    Args:
        dtype: name of a torch type, "float32" or "bfloat16".
        device: as torch names it; empty takes this rank's GPU, or the CPU.

    Raises:
        ValueError: see `load_answerer`.
    """
    import torch

    answerer = load_answerer(
        found.folder, adapter=found.adapter, dtype=getattr(torch, dtype), device=device or None
    )
    return OwnCaptioner(
        name=name,
        answerer=answerer,
        identity={
            "weights": fingerprint(found.folder, found.adapter),
            "dtype": dtype,
            "max_new_tokens": str(max_new_tokens),
        },
        max_new_tokens=max_new_tokens,
        prompts_per_batch=prompts_per_batch,
    )


def _checkpoint_of(adapter: Path) -> Path:
    """The checkpoint that the run which wrote the adapter started from."""
    run = adapter.parent
    if not (run / _RUN_CONFIG).is_file():
        raise ValueError(
            f"{adapter} holds an adapter alone, and no {run / _RUN_CONFIG} says what it was trained in; name "
            f"that checkpoint as the captioner, and this folder with --adapter"
        )
    config = yaml.safe_load((run / _RUN_CONFIG).read_text(encoding="utf-8"))
    folder = Path(config["model"]["checkpoint"])
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"the adapter in {adapter} was trained in {folder}, which is not there (paths are relative to "
            f"where training was started); start from there, or name the checkpoint as the captioner and "
            f"this folder with --adapter"
        )
    return folder
