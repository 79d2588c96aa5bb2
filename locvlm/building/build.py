"""One output being built: it stands over nothing else, appears complete, and says how it was made.

    build = begin_build(args, inputs=[args.instances], image_root=args.image_root)
    if build is None:
        return  # it is there already
    build.write_records(records, ledgers=[...])

The manifest is written just before the output takes its place. Killed between the two, the output does not
fit its manifest, or is not there, and is built again.
"""

import argparse
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from locvlm.building.journal import Journal, differing
from locvlm.building.manifest import (
    Made,
    Manifest,
    RecordCounts,
    manifest_path,
    read_manifest,
    write_manifest,
)
from locvlm.building.preview import write_preview
from locvlm.io import Ledger, atomic_writer, record_to_json, sha256_of
from locvlm.progress import progress
from locvlm.records import Record
from locvlm.shard import Shard

logger = logging.getLogger(__name__)

ALL = str(Shard(0, 1))
# arguments that leave the output as it is
_NOT_OF_THE_RESULT = ("out", "overwrite", "preview", "workers", "max_dropped_fraction")


@dataclass(frozen=True, kw_only=True)
class Build:
    """An output that is to be made; `begin_build` gives it."""

    out: Path
    made: Made
    overwrite: bool = False
    preview: Path | None = None
    image_root: Path | None = None

    def write_records(
        self,
        records: Iterable[Record],
        *,
        ledgers: Sequence[Ledger] = (),
        input_ledgers: Sequence[Ledger] = (),
        counts: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        total: int | None = None,
    ) -> RecordCounts:
        """Write the records as JSON Lines, the manifest, and the preview if one was asked for.

        Ledgers and counts are read when the last record has come, so that a generator may fill them. What
        shards of one build count apart adds up (`ledgers`, `counts`: numbers, or dicts of numbers); what
        every shard finds out about the whole input is the same in all (`input_ledgers`, `facts`).

        Args:
            total: records or items to come, for the progress bar.

        Raises:
            ValueError: if there is no record, unless this is one shard of several; what stood there before
                stays.
        """
        tally = RecordCounts()
        digest = hashlib.sha256()
        with atomic_writer(self.out, binary=True) as file:
            for record in progress(tally.counted(records), what=self.out.name, total=total):
                line = (
                    json.dumps(record_to_json(record), ensure_ascii=False, allow_nan=False).encode() + b"\n"
                )
                digest.update(line)
                file.write(line)
            if not tally.num_records and not self.is_part:
                inputs = " and ".join(self.made.inputs) or "the input"
                raise ValueError(f"{inputs}: nothing in it can be asked about, so there is nothing to write")
            write_manifest(
                self.out,
                self._manifest(
                    digest.hexdigest(), ledgers, input_ledgers, {**tally.to_dict(), **(counts or {})}, facts
                ),
            )
        logger.info("%s: %s; see %s", self.out, tally.to_dict(), manifest_path(self.out))
        self.write_preview()
        return tally

    def write_file(
        self,
        write: Callable[[Path], Any],
        *,
        ledgers: Sequence[Ledger] = (),
        counts: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an output of another form, complete or not at all: `write` is given the path to write to."""
        partial = self.out.with_name(f".{self.out.name}.partial")
        try:
            write(partial)
            write_manifest(self.out, self._manifest(sha256_of(partial), ledgers, (), counts, facts))
            os.replace(partial, self.out)
        finally:
            partial.unlink(missing_ok=True)

    def write_manifest(
        self,
        *,
        ledgers: Sequence[Ledger] = (),
        input_ledgers: Sequence[Ledger] = (),
        counts: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the manifest of an output that stands, a folder or a file of another form."""
        sha256 = sha256_of(self.out) if self.out.is_file() else ""
        write_manifest(self.out, self._manifest(sha256, ledgers, input_ledgers, counts, facts))

    @property
    def is_part(self) -> bool:
        """Whether this is one shard of several, which may hold nothing."""
        return bool(self.made.arguments.get("shard", ALL) != ALL)

    def open_journal(self) -> Journal:
        """The journal of this build, with what an earlier start of the same build has done."""
        path = self.out.with_name(f"{self.out.name}.journal.jsonl")
        return Journal(path, made_by=self.made.key(), overwrite=self.overwrite)

    def write_preview(self) -> None:
        """Write the page of samples of a record file, if one was asked for."""
        if self.preview is not None:
            write_preview(self.preview, self.out, image_root=self.image_root)

    def _manifest(
        self,
        sha256: str,
        ledgers: Sequence[Ledger],
        input_ledgers: Sequence[Ledger],
        counts: Mapping[str, Any] | None,
        facts: Mapping[str, Any] | None,
    ) -> Manifest:
        return Manifest(
            sha256=sha256,
            made=self.made,
            ledgers=[ledger.to_dict() for ledger in ledgers],
            input_ledgers=[ledger.to_dict() for ledger in input_ledgers],
            counts=dict(counts or {}),
            facts=dict(facts or {}),
        )


def begin_build(
    args: argparse.Namespace,
    *,
    inputs: Iterable[Path],
    out: Path | None = None,
    image_root: Path | None = None,
    **arguments: Any,
) -> Build | None:
    """What is to be built; None if it is there already, made by the same arguments from the same inputs.

    Args:
        args: of the program, see `add_build_options`.
        inputs: files that decide what is built; they are hashed.
        out: the output, where a program makes several; `args.out` otherwise.
        image_root: folder of the images, for the preview.
        arguments: what further distinguishes this output from others of the program.

    Raises:
        ValueError: if an input is missing, the output was made otherwise and --overwrite is not given, or a
            preview is asked for and there is no image_root.
    """
    out = out or args.out
    if args.preview is not None and image_root is None:
        raise ValueError(
            f"--preview {args.preview} draws photographs: say where they are, --image-root FOLDER"
        )
    build = Build(
        out=out,
        made=Made(
            arguments={
                name: value if isinstance(value, int | float | bool | None) else _plain(value)
                for name, value in {**vars(args), **arguments}.items()
                if name not in _NOT_OF_THE_RESULT
            },
            inputs={str(path): _hash_of(path) for path in inputs},
        ),
        overwrite=args.overwrite,
        preview=args.preview,
        image_root=image_root,
    )
    if not out.exists() or args.overwrite:
        return build
    _require_same(build)
    logger.info("%s is there already, complete, made by these arguments from these inputs", out)
    build.write_preview()
    return None


def _require_same(build: Build) -> None:
    """Raise unless the output that stands is the one to build."""
    fix = "give another --out, or --overwrite to replace it"
    if not manifest_path(build.out).is_file():
        raise ValueError(f"{build.out} exists and has no manifest that says how it was made; {fix}")
    there = read_manifest(build.out)
    if changed := differing(build.made.key(), there.made.key()):
        raise ValueError(f"{build.out} exists, made by other arguments ({changed}); {fix}")
    if there.sha256 and sha256_of(build.out) != there.sha256:
        raise ValueError(
            f"{build.out} is not what its manifest tells of: it was changed after it was built; {fix}"
        )


def _hash_of(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it is read by this builder")
    stat = path.stat()
    return _hash_once(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:
    """The hash of a file as it is now; a program with several outputs asks for it several times."""
    return sha256_of(path)


def _plain(value: Any) -> Any:
    """Plain JSON values."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value)
