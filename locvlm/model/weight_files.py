"""Weights from files: safetensors or PyTorch's own, whole or in shards, and one message for all that misfits.

A pickle is opened only as tensors (`weights_only`), never as code.
"""

import logging
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from locvlm.io import read_json, resolve_inside

logger = logging.getLogger(__name__)

_IN_FOLDERS = (  # what a folder's weights are called; the first that is there
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
_NUM_LISTED = 8  # names of each kind in a message
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

Shape = tuple[int, ...]


def require_folder(folder: str | Path, what: str) -> Path:
    """`folder`, if it is one with a config.json.

    Raises:
        ValueError: that says what was expected; for a name on the hub, how to fetch it first.
    """
    path = Path(folder)
    if (path / "config.json").is_file():
        return path
    raise ValueError(
        f"no {what} in {folder}: expected a Hugging Face folder with config.json{download_hint(folder)}"
    )


def download_hint(name: str | Path) -> str:
    """How to fetch what looks like a name on the hub; empty for a path that exists or is none."""
    text = str(name)
    if Path(text).exists() or not _HUB_NAME.fullmatch(text):
        return ""
    folder = f"checkpoints/{text.split('/')[1]}"
    return (
        f". If it is a name on the Hugging Face hub: nothing is fetched here; run "
        f"`hf download {text} --local-dir {folder}` and give {folder}"
    )


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, or of a folder's weight files, by their names there; on the CPU, unread where
    the file can be mapped into memory.

    Raises:
        ValueError: if there are none, a shard of the index is missing, a file is damaged, or a pickle holds
            more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ValueError(f"no weights at {path}: expected a file or folder{download_hint(path)}")
    try:
        weights = _read_file(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is a pickle that holds more than tensors, and opening it could run code: "
            f"{str(error).splitlines()[0]}; convert it to safetensors where you trust it"
        ) from error
    except (SafetensorError, OSError, EOFError, RuntimeError, KeyError) as error:
        raise ValueError(f"the weights in {path} cannot be read: {error}") from error
    values = weights.values() if isinstance(weights, dict) else [weights]
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in values):
        raise ValueError(f"{path} holds more than named tensors; expected a state dict alone")
    return weights


def load_whole(cls: Any, folder: str | Path, *, ignored: tuple[str, ...] = (), **options: Any) -> Any:
    """`cls.from_pretrained(folder)` that makes nothing up and fetches nothing.

    Args:
        ignored: beginnings of the names of weights that the folder may hold in vain.
        options: of `from_pretrained`; the precision is the folder's own by default.

    Raises:
        ValueError: listing what is missing, unknown or of another shape.
    """
    model, info = cls.from_pretrained(
        folder,
        local_files_only=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **{"dtype": "auto", **options},
    )
    require_no_misfit(
        missing=info["missing_keys"],
        unknown=[name for name in info["unexpected_keys"] if not name.startswith(ignored)],
        misshaped={name: (tuple(got), tuple(wanted)) for name, got, wanted in info["mismatched_keys"]},
        where=folder,
    )
    return model


def require_fitting(found: Mapping[str, Shape], expected: Mapping[str, Shape], *, where: str | Path) -> None:
    """Nothing, if names and shapes are the expected ones.

    Raises:
        ValueError: listing every kind of misfit, each up to a few names and their number.
    """
    require_no_misfit(
        missing=expected.keys() - found.keys(),
        unknown=found.keys() - expected.keys(),
        misshaped={
            name: (found[name], shape)
            for name, shape in expected.items()
            if name in found and found[name] != shape
        },
        where=where,
    )


def require_no_misfit(
    *,
    missing: Collection[str],
    unknown: Collection[str],
    misshaped: Mapping[str, tuple[Shape, Shape]],
    where: str | Path,
) -> None:
    """Nothing, if all are empty; `misshaped` maps a name to (its shape, the expected one).

    Raises:
        ValueError: as `require_fitting`.
    """
    shapes = [f"{name} has shape {got}, expected {wanted}" for name, (got, wanted) in misshaped.items()]
    lists = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    problems = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in lists.items() if names]
    if problems:
        raise ValueError(f"the weights in {where} do not fit this model. {'. '.join(problems)}")


def shapes_of(weights: Mapping[str, torch.Tensor]) -> dict[str, Shape]:
    """Name -> shape."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def _listed(names: Collection[str]) -> str:
    first = ", ".join(sorted(names)[:_NUM_LISTED])
    rest = len(names) - _NUM_LISTED
    return f"{first}, ... and {rest} more" if rest > 0 else first


def _read_folder(folder: Path) -> dict[str, torch.Tensor]:
    name = next((name for name in _IN_FOLDERS if (folder / name).is_file()), None)
    if name is None:
        raise ValueError(f"{folder} holds no weights: expected one of {', '.join(_IN_FOLDERS)}")
    if not name.endswith(".index.json"):
        return read_weights(folder / name)
    index = read_json(folder / name)
    shards = sorted(set(index["weight_map"].values())) if "weight_map" in index else []
    absent = [shard for shard in shards if not resolve_inside(folder, shard).is_file()]
    if absent or not shards:
        raise ValueError(
            f"{folder / name} lists {len(shards)} files, of which {len(absent)} are missing: "
            f"{_listed(absent)}; fetch the rest of the checkpoint"
        )
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        weights.update(read_weights(folder / shard))
    return weights


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix not in (".bin", ".pt", ".pth"):
        raise ValueError(f"expected weights as .safetensors, .bin, .pt or .pth, got {path}")
    # files of PyTorch before 1.6 are no archives and cannot be mapped
    weights: dict[str, torch.Tensor] = torch.load(
        path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
    )
    return weights
