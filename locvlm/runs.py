"""The folder of a run: what was run, with which code, versions and seeds, and what it measured."""

import importlib.metadata
import logging
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import yaml

from locvlm import dist
from locvlm.config import save_config
from locvlm.config_text import to_dict
from locvlm.io import write_json
from locvlm.locks import hold_lock
from locvlm.log import MetricsWriter

logger = logging.getLogger(__name__)

LOCK = "run.lock"  # file of a run

_PACKAGES = (
    *(
        "locvlm",
        "torch",
        "torchvision",
        "transformers",
        "tokenizers",
        "sentencepiece",
        "accelerate",
        "deepspeed",
    ),
    *("peft", "open_clip_torch", "timm", "numpy", "pillow", "pycocotools", "decord"),
)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """`path` holds config.yaml (resolved), environment.json, metrics.jsonl and what the program adds."""

    path: Path
    lock: IO[str] | None = None  # held as long as it is open

    @property
    def metrics(self) -> MetricsWriter:
        """Appends to metrics.jsonl."""
        return MetricsWriter(self.path / "metrics.jsonl")


def start_run(output_dir: str | Path, config: Any) -> RunFolder:
    """Make the folder; rank 0 writes the resolved config and the environment into it.

    A folder that stands is used again, which is how a run resumes; a config that differs from the one in it
    is logged key by key.

    Raises:
        ValueError: if the folder cannot be written, or another process is running in it.
    """
    run = RunFolder(path=Path(output_dir))
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        if not dist.is_main():
            return run
        run = replace(run, lock=hold_lock(run.path / LOCK, what=f"running in {run.path}"))
    except OSError as error:
        raise ValueError(f"cannot write into the run folder {run.path}: {error}; give another one") from error
    config_path = run.path / "config.yaml"
    if config_path.exists():
        for line in _differences(yaml.safe_load(config_path.read_text(encoding="utf-8")), to_dict(config)):
            logger.warning("%s stands already, with another config: %s", run.path, line)
    save_config(config, config_path)
    write_json(run.path / "environment.json", environment(config))
    return run


def environment(config: Any = None) -> dict[str, Any]:
    """What a number depends on beside its config: argv, commit, versions, machine, ranks and seeds."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version_of(name))},
        "ranks": dist.expected_world_size(),
        "seeds": dict(_seeds(to_dict(config), "")),
    }


def git_commit() -> str | None:
    """The commit of the checkout this package runs from, "-dirty" with changes; None outside of one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None  # installed elsewhere: a commit of some enclosing repository would be another project's
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _seeds(config: Any, where: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting named `seed` or `*_seed`."""
    for key, value in config.items() if isinstance(config, dict) else ():
        name = f"{where}.{key}" if where else key
        if key == "seed" or key.endswith("_seed"):
            yield name, value
        yield from _seeds(value, name)


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where} was {old!r}, is {new!r}"
