"""What a checkpoint holds, how it appears complete or not at all, and how training goes on from it.

RUN/checkpoint-20/
  checkpoint.json          step, stage, ranks, engine, position in the data: who may resume from it
  <weights>                the adapter, where it trains alone; else a whole Hugging Face folder, or LoRA's
  optimizer.pt scheduler.pt, or DeepSpeed's global_step20/    states of what trains
  rng_state*.pth  trainer_state.json
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from locvlm.constants import MAX_SHARD_SIZE
from locvlm.dist import is_main
from locvlm.io import read_json, write_json
from locvlm.model.adapter import load_adapter, save_adapter
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings, load_lora, save_lora
from locvlm.model.processor import build_processor

logger = logging.getLogger(__name__)

STAGING = "incomplete"  # folder of a run in which checkpoints are written before they get their place
_DESCRIPTION = "checkpoint.json"
_LAYOUT = 1  # of a checkpoint folder; raise it when an older program could not read a new one
_NAME = re.compile(r"checkpoint-(\d+)")

Stage = Literal["stage1", "stage2", "stage3"]
GatherState = Callable[
    [], dict[str, torch.Tensor]
]  # whole weights on the main process; every rank has to call it


# ---- weights, by stage


class Weights(Protocol):
    """How a stage writes and reads weights. `save` is called on every rank."""

    stage: Stage
    lora: LoraSettings | None  # of the matrices that train in the language model's place

    def save(self, model: LocVLM, folder: Path, gather: GatherState) -> None:
        """Write into `folder`."""

    def load(self, model: LocVLM, folder: Path) -> None:
        """Restore in place what `save` wrote."""


class AdapterWeights:
    """Where nothing else trains (stage 1, LocVLM-Vid-B): the adapter, never the frozen language model."""

    lora: LoraSettings | None = None

    def __init__(self, stage: Stage = "stage1") -> None:
        self.stage = stage

    def save(self, model: LocVLM, folder: Path, gather: GatherState) -> None:
        """adapter.safetensors and adapter_config.json."""
        save_adapter(model, folder)

    def load(self, model: LocVLM, folder: Path) -> None:
        """Put them back."""
        load_adapter(model, folder)


class FolderWeights:
    """Stages 2 and 3: a Hugging Face folder with tokenizer and processor, to be evaluated and exported."""

    lora: LoraSettings | None = None

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, chat_template: str | None, *, stage: Stage = "stage2"
    ) -> None:
        self.stage = stage
        self._tokenizer = tokenizer
        self._chat_template = chat_template

    def save(self, model: LocVLM, folder: Path, gather: GatherState) -> None:
        """The whole model."""
        state = gather()
        if not is_main():
            return
        # The library notes how weights were named where they came from, under ZeRO-3 wrongly: it would save
        # names that nothing loads. Without the note it writes the published ones.
        model.__dict__.pop("_weight_conversions", None)
        model.save_pretrained(folder, state_dict=state, max_shard_size=MAX_SHARD_SIZE)
        processor = build_processor(self._tokenizer, model.spec, model.contract.frame, self._chat_template)
        processor.save_pretrained(folder)

    def load(self, model: LocVLM, folder: Path) -> None:
        """Put the weights back, through the library's own key names."""
        saved = type(model).from_pretrained(folder, dtype=model.dtype)
        model.load_state_dict(saved.state_dict(), strict=True)


class LoraWeights:
    """Stages 2 and 3 with LoRA: its layers and the adapter, never the frozen language model."""

    def __init__(self, settings: LoraSettings, *, base: str, stage: Stage = "stage2") -> None:
        self.stage = stage
        self.lora: LoraSettings | None = settings
        self._settings, self._base = settings, base

    def save(self, model: LocVLM, folder: Path, gather: GatherState) -> None:
        """A LoRA folder, see `locvlm/model/lora.py`."""
        save_lora(model, folder, self._settings, base=self._base)

    def load(self, model: LocVLM, folder: Path) -> None:
        """Put them back."""
        load_lora(model, folder)


# ---- checkpoints of a run


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a checkpoint is; decides who may resume from it."""

    step: int
    stage: Stage
    num_ranks: int
    zero_stage: int  # 0: without DeepSpeed
    data: dict[str, Any]  # position in the data, see `StepLoader.state_dict`
    layout: int = _LAYOUT


def publish(run: Path, name: str) -> None:
    """Move the completely written RUN/incomplete/NAME to RUN/NAME, in the place of one that stands there."""
    staged, final = run / STAGING / name, run / name
    _flush(staged)
    if final.exists():
        os.replace(final, run / STAGING / f"{name}.old")
    os.replace(staged, final)
    shutil.rmtree(run / STAGING, ignore_errors=True)


def write_description(folder: Path, description: Description) -> None:
    """Write what makes a folder a checkpoint."""
    write_json(folder / _DESCRIPTION, asdict(description))


def last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run folder; None if it has none."""
    found = _checkpoints(run)
    return found[-1][1] if found else None


def _checkpoints(run: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint, in order."""
    return sorted(
        (int(match[1]), folder)
        for folder in (run.iterdir() if run.is_dir() else ())
        if (match := _NAME.fullmatch(folder.name)) and (folder / _DESCRIPTION).is_file()
    )


@contextmanager
def explaining_failure(run: Path, name: str) -> Iterator[None]:
    """Say what a failed write leaves behind: all that was complete before.

    Raises:
        RuntimeError: from the failure, naming the folder, the free space and the newest checkpoint.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own
        newest = last_checkpoint(run)
        kept = f"{newest} is intact: the same command goes on from it" if newest else "No earlier one stands"
        free_gb = shutil.disk_usage(run).free / 1e9
        raise RuntimeError(
            f"could not write {run / name}: {error}. {kept}. The disk has {free_gb:.1f} GB free; make room, "
            f"or keep fewer checkpoints (training.save_total_limit, faults.max_checkpoints_gb)"
        ) from error


def keep_within(run: Path, *, max_gb: float) -> None:
    """Delete the oldest checkpoints until all together take at most `max_gb` (10^9 bytes); never the newest.

    0 sets no limit.
    """
    folders = [folder for _, folder in _checkpoints(run)]
    sizes = [sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) for folder in folders]
    for folder, size in list(zip(folders, sizes, strict=True))[:-1]:
        if not max_gb or sum(sizes) <= max_gb * 1e9:
            return
        logger.info("removing %s: the checkpoints take more than %g GB", folder, max_gb)
        shutil.rmtree(folder)
        sizes.remove(size)


def remove_incomplete(run: Path) -> None:
    """Delete what a killed run was writing."""
    if (run / STAGING).is_dir():
        logger.warning("removing %s: the run that wrote it was stopped before it was complete", run / STAGING)
        shutil.rmtree(run / STAGING)


def describe(folder: Path) -> Description:
    """What a checkpoint says of itself.

    Raises:
        ValueError: if it is no complete checkpoint.
    """
    if not (folder / _DESCRIPTION).is_file():
        raise ValueError(
            f"cannot resume from {folder}: it has no {_DESCRIPTION}, so it is no complete checkpoint; "
            f"expected a folder RUN/checkpoint-N. To start from weights alone, name them as model.checkpoint"
        )
    values = read_json(folder / _DESCRIPTION)
    if values.get("layout", 1) > _LAYOUT:
        raise ValueError(
            f"cannot resume from {folder}: it has layout {values['layout']}, this version of LocVLM reads up "
            f"to {_LAYOUT}; use the version that wrote it, see environment.json beside it"
        )
    return Description(**values)


def require_resumable(folder: Path, *, stage: Stage, zero_stage: int) -> Description:
    """What a checkpoint is that a run of this kind is to go on from.

    Raises:
        ValueError: if it is incomplete, of another stage or of another engine.
    """
    found = describe(folder)
    if found.stage != stage:
        raise ValueError(
            f"cannot resume {stage} from {folder}: it is of {found.stage}; use the program that wrote it"
        )
    if found.zero_stage != zero_stage:
        raise ValueError(
            f"cannot resume from {folder}: it was written with {_engine(found.zero_stage)}, this run has "
            f"{_engine(zero_stage)}; optimizer states do not carry over, so keep training.deepspeed as it was"
        )
    return found


def load_deepspeed(engine: Any, folder: Path) -> None:
    """Restore weights that train, optimizer and schedule of a DeepSpeed engine.

    Raises:
        ValueError: if the folder lacks DeepSpeed's part.
    """
    # not strict: what is frozen is not in it; the stage, and with it what is frozen, was checked
    loaded, _ = engine.load_checkpoint(str(folder), load_module_strict=False)
    if loaded is None:
        raise ValueError(f"cannot resume from {folder}: DeepSpeed finds no state in it")


def _engine(zero_stage: int) -> str:
    return f"DeepSpeed ZeRO-{zero_stage}" if zero_stage else "no DeepSpeed"


def _flush(folder: Path) -> None:
    """Have the disk write the files now, so that a name never outlives its content."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
