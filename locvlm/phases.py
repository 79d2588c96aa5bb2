"""A long way in phases: each a few commands, skipped where it stands, gone on with where it was interrupted.

Used by scripts/demo.py. What stands is decided by a key: a hash of a phase's commands, of the configs and
other files that they read, and of the phases whose results it needs.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locvlm.io import read_json, sha256_of, write_json

logger = logging.getLogger(__name__)

_SAVE_EVERY_S = 5.0
_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    # glibc returns large blocks to the system after every use; asking for them again, page by page, is a
    # quarter of a training step on a CPU
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One step of the way."""

    name: str
    commands: Sequence[Sequence[str]]  # Python program and arguments, run one after the other
    makes: Sequence[Path] = ()  # removed before the phase runs again for another reason than an interruption
    needs: Sequence[str] = ()  # phases whose results it reads
    configs: Sequence[str | Path] = ()  # text files that its commands read, part of its key
    files: Sequence[str | Path] = ()  # binary ones, such as weights; their SHA-256 is part of its key
    is_resumable: bool = True  # else what an interrupted start left is removed first
    is_always_run: bool = False  # quick, and worth doing again

    def key(self, keys: dict[str, str], root: Path) -> str:
        """What the result depends on, as a hash; `keys` holds those of the phases it needs."""
        parts = [
            [list(arguments) for arguments in self.commands],
            [(root / name).read_text(encoding="utf-8") for name in self.configs],
            [sha256_of(root / name) for name in self.files],
            [keys[name] for name in self.needs],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def command(program: str, options: dict[str, Any]) -> list[str]:
    """The program with `--name value` for each option."""
    return [program, *(text for name, value in options.items() for text in (f"--{name}", str(value)))]


class PhaseFailed(Exception):
    """A command of a phase ended with an error, which it has printed itself."""


class Journal:
    """OUT/phases.json: each phase's key, the seconds spent over all starts, and whether it finished."""

    def __init__(self, out: Path) -> None:
        self.path = out / "phases.json"
        self.phases: dict[str, dict[str, Any]] = read_json(self.path) if self.path.exists() else {}

    def has_finished(self, phase: str, key: str) -> bool:
        """Whether the phase finished with this key."""
        entry = self.phases.get(phase)
        return entry is not None and entry["finished"] and entry["key"] == key

    def start(self, phase: str, key: str) -> None:
        """Note a start; seconds add up only over starts with the same key."""
        entry = self.phases.get(phase, {})
        seconds = entry["seconds"] if entry.get("key") == key and not entry["finished"] else 0.0
        self.phases[phase] = {"key": key, "seconds": seconds, "finished": False}
        self.save()

    def spend(self, phase: str, seconds: float) -> None:
        """Add time spent."""
        self.phases[phase]["seconds"] += seconds
        self.save()

    def finish(self, phase: str) -> None:
        """Note that the phase is complete."""
        self.phases[phase]["finished"] = True
        self.save()

    def seconds(self) -> dict[str, float]:
        """Phase -> seconds, rounded to a tenth."""
        return {name: round(entry["seconds"], 1) for name, entry in self.phases.items()}

    def save(self) -> None:
        """Write the file, and seconds.json, which the report reads."""
        write_json(self.path, self.phases)
        write_json(self.path.with_name("seconds.json"), self.seconds())


def run_phases(phases: Sequence[Phase], out: Path, *, root: Path) -> Journal:
    """Run every phase that does not stand yet, in order, as subprocesses in `root`; returns the journal.

    Raises:
        PhaseFailed: naming the phase and its command's exit status.
        ValueError: if another process runs phases in `out`.
    """
    keys: dict[str, str] = {}
    with _locked(out):
        journal = Journal(out)
        for phase in phases:
            keys[phase.name] = key = phase.key(keys, root)
            if phase.is_always_run or not journal.has_finished(phase.name, key):
                _run_phase(phase, key, journal, root)
    return journal


def _run_phase(phase: Phase, key: str, journal: Journal, root: Path) -> None:
    entry = journal.phases.get(phase.name)
    is_interrupted = entry is not None and entry["key"] == key and not entry["finished"]
    if entry is not None and not (is_interrupted and phase.is_resumable):
        for path in phase.makes:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    journal.start(phase.name, key)
    for arguments in phase.commands:
        logger.info("%s: %s", phase.name, shlex.join(["python", *arguments]))
        status = _run_timed([sys.executable, *arguments], phase.name, journal, root)
        if status:
            raise PhaseFailed(f"{phase.name} failed with status {status}; started again, it goes on there")
    journal.finish(phase.name)


def _run_timed(arguments: Sequence[str], phase: str, journal: Journal, root: Path) -> int:
    """The exit status of a command; its time is saved every few seconds and survives a kill."""
    environment = {**_ENVIRONMENT, **os.environ}
    started = time.monotonic()
    process = subprocess.Popen(arguments, cwd=root, env=environment)
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_SAVE_EVERY_S)
            now = time.monotonic()
            journal.spend(phase, now - started)
            started = now
    finally:
        if process.poll() is None:  # interrupted: the command ends before this process does
            process.terminate()
            process.wait()
    return process.returncode


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder: two processes in one would write the same files."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is at work in {out}; wait, or choose another folder"
            ) from error
        yield
