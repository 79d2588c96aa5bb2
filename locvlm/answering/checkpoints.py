"""Folders whose models answer questions: checkpoints, exports, an adapter in its base, LoRA merged into its.

What is no such folder is refused with the name of the one to give instead.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from locvlm.io import read_json, sha256_of
from locvlm.model.adapter import LLAVA_FILE, WEIGHTS_FILE, load_adapter
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import ADAPTER_FOLDER, BASE_FILE, LORA_FOLDER, attach_lora, merge_lora
from locvlm.model.registered import LocVLMVideo, LocVLMVideoConfig
from locvlm.model.weight_files import download_hint, load_whole

_PIECES, _PIECE_BYTES = 64, 4096  # what of each weight file the fingerprint reads


def open_checkpoint(
    folder: Path, *, adapter: Path | None = None, base: Path | None = None, dtype: torch.dtype
) -> tuple[Any, Path]:
    """A checkpoint's model, on the CPU, and the folder that holds its tokenizer.

    Args:
        folder: a whole checkpoint (RUN/final, RUN/checkpoint-20, an export), or what a run with LoRA leaves.
        adapter: an adapter-only folder, as stage 1 leaves it, to put into the checkpoint it was trained from.
        base: the starting checkpoint of a run with LoRA, if it is no longer where the folder says.

    Raises:
        ValueError: if the folder is no checkpoint, or the parts do not belong together.
    """
    weights = _weights_folder(folder, base)
    if adapter is not None and weights != folder:
        raise ValueError(f"{folder} is of a run with LoRA and has an adapter of its own; leave --adapter out")
    model = load_whole(_class_of(weights), weights, dtype=dtype)
    if weights != folder:
        attach_lora(model, folder)
        merge_lora(model)
    if adapter is not None:
        load_adapter(model, adapter)
    return model, weights


def fingerprint(folder: Path, adapter: Path | None = None, base: Path | None = None) -> str:
    """A short name for what a checkpoint answers: its config, and evenly spaced pieces of its weight files.

    Not a hash of all weights: those of a 7B model take a minute to read.
    """
    weights = _weights_folder(folder, base)
    digest = hashlib.sha256(sha256_of(weights / "config.json").encode())
    for path in _weight_files(weights, folder, adapter):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for piece in range(_PIECES):
                file.seek(size * piece // _PIECES)
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()[:16]


def identity_of(name: str, config: Any) -> str:
    """What tells a checkpoint's weights from others: its fingerprint, or the revision that the hub gave.

    Args:
        name: a folder, or a name on the hub.
        config: the loaded model's.
    """
    if (Path(name) / "config.json").is_file():
        return fingerprint(Path(name))
    return f"{name}@{getattr(config, '_commit_hash', None) or 'unknown'}"


def _class_of(folder: Path) -> type[LocVLM]:
    """The class that reads a folder without complaining about the name of another."""
    is_for_videos = read_json(folder / "config.json").get("model_type") == LocVLMVideoConfig.model_type
    return LocVLMVideo if is_for_videos else LocVLM


def _weight_files(weights: Path, folder: Path, adapter: Path | None) -> Iterator[Path]:
    yield from sorted(weights.glob("*.safetensors"))
    yield from sorted(weights.glob("pytorch_model*.bin"))
    if weights != folder:
        yield from sorted((folder / LORA_FOLDER).glob("*.safetensors"))
        yield folder / ADAPTER_FOLDER / WEIGHTS_FILE
    if adapter is not None:
        files = (adapter / WEIGHTS_FILE, adapter / LLAVA_FILE)
        yield next((file for file in files if file.is_file()), adapter)


def _weights_folder(folder: Path, base: Path | None) -> Path:
    """Where the whole weights lie: in the folder itself, or in the base of a run with LoRA."""
    if (folder / BASE_FILE).is_file():
        weights = base or Path(read_json(folder / BASE_FILE)["base"])
        if not (weights / "config.json").is_file():
            raise ValueError(
                f"{folder} is of a run with LoRA from {weights}, which holds no config.json; where is its "
                f"starting checkpoint now? Give it as --base"
            )
        return weights
    if base is not None:
        raise ValueError(f"--base is for what a run with LoRA leaves, and {folder} has no {BASE_FILE}")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json; {_what_instead(folder)}")
    return folder


def _what_instead(folder: Path) -> str:
    if any((folder / name).is_file() for name in (WEIGHTS_FILE, LLAVA_FILE)):
        return f"it is an adapter alone: give --model the checkpoint it was trained from, --adapter {folder}"
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    inside = [path.name for path in children if any((path / n).is_file() for n in ("config.json", BASE_FILE))]
    if inside:
        return f"give one of the checkpoints in it: {', '.join(inside)}"
    return f"expected a LocVLM checkpoint or an exported folder{download_hint(folder)}"
