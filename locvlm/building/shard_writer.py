"""Tar shards in webdataset's layout, as `locvlm.data.shards` reads them: records beside their images.

    00000.tar    000000.jpg 000000.json 000001.jpg 000001.json ...

Which record goes where is planned before an image is read, and a record whose image cannot be used leaves a
gap. So a tar depends on its own records alone: tars are made by any number of processes and jobs, a killed
build goes on at the tar it was at, and the same records and images give the same bytes.
"""

import io
import json
import logging
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from locvlm.building.journal import Journal
from locvlm.building.parallel import map_in_order
from locvlm.data.archive import locate
from locvlm.data.image import SizeMismatch, UnreadableImage, load_image
from locvlm.data.shards import IMAGE_EXTENSIONS
from locvlm.io import Ledger, atomic_writer, record_to_json, resolve_inside, sha256_of
from locvlm.records import Record

logger = logging.getLogger(__name__)

_BLOCK = 512  # bytes; a tar consists of these
_MIN_DIGITS = 6  # of a key


class Member(NamedTuple):
    """A file of a tar that was written, and where its bytes are."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class TarPlan:
    """A tar to write: the records that go into it, by key."""

    name: str
    samples: tuple[tuple[str, Record], ...]


def write_tar(path: str | Path, members: Iterable[tuple[str, bytes]]) -> list[Member]:
    """Write the members (name, bytes) in their order, atomically; the tar holds no times and no owners.

    Raises:
        OSError: if there is no room for it; then nothing is left of it.
    """
    written = []
    with (
        atomic_writer(path, binary=True) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in members:
            info = tarfile.TarInfo(name)  # of time 0, owner 0, mode 0644
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            padded = -(-len(data) // _BLOCK) * _BLOCK
            written.append(Member(name, tar.offset - padded, len(data)))
    return written


def plan_tars(records: Sequence[Record], *, samples_per_tar: int) -> list[TarPlan]:
    """The tars that hold the records in their order, `samples_per_tar` each but for the last.

    Keys count samples through all tars, in as many digits as the last one needs: sorted by name, samples are
    in their order.
    """
    if samples_per_tar < 1:
        raise ValueError(f"a tar holds at least one sample, got {samples_per_tar} per tar")
    starts = range(0, len(records), samples_per_tar)
    digits = max(_MIN_DIGITS, len(str(len(records) - 1)))
    return [
        TarPlan(
            name,
            tuple(
                (f"{start + k:0{digits}}", record)
                for k, record in enumerate(records[start : start + samples_per_tar])
            ),
        )
        for name, start in zip(tar_names(len(starts)), starts, strict=True)
    ]


def tar_names(count: int) -> list[str]:
    """The names of `count` tars: 00000.tar, 00001.tar ..."""
    digits = max(5, len(str(count - 1)))
    return [f"{number:0{digits}}.tar" for number in range(count)]


def require_tars(folder: Path, names: Sequence[str]) -> None:
    """Raise unless tars of all these names stand in the folder.

    Raises:
        ValueError: naming the first that does not.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} tars are no longer in {folder}, the first is {missing[0]}; "
            f"write them again with --overwrite"
        )


def write_tars(
    plans: Sequence[TarPlan],
    folder: Path,
    *,
    image_root: Path,
    journal: Journal,
    ledger: Ledger,
    check_images: bool = False,
    workers: int = 0,
) -> Iterator[list[Record]]:
    """Write the tars to `folder`, those that the journal does not have; yields of each the records in it.

    A tar of the journal is kept if it stands as it was written, and otherwise written again. The ledger
    counts images: kept, or dropped because the file is missing or cannot be read.

    Args:
        image_root: a folder, or a zip, that the images of the records lie in.
        check_images: decode every image, and drop those that are broken, or are not of their record's size.

    Raises:
        ValueError: for a path that leaves `image_root`, or images that changed since a tar was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = {plan.name: plan for plan in plans if not _stands(plan, folder, journal)}
    if len(todo) < len(plans):
        logger.info("%s: %d of %d tars stand already", folder, len(plans) - len(todo), len(plans))
    pack = partial(_pack, folder=folder, image_root=image_root, check_images=check_images)
    packed = map_in_order(pack, todo.values(), workers)
    for plan in plans:
        if plan.name in todo:
            _note(plan, next(packed), journal)
        yield list(_kept(plan, journal[plan.name], ledger))


def _stands(plan: TarPlan, folder: Path, journal: Journal) -> bool:
    path = folder / plan.name
    return plan.name in journal and path.is_file() and sha256_of(path) == journal[plan.name]["sha256"]


def _note(plan: TarPlan, packed: dict[str, Any], journal: Journal) -> None:
    """Put what was packed into the journal, or compare it with what is there."""
    if plan.name not in journal:
        journal.add(plan.name, packed)
    elif journal[plan.name] != packed:
        raise ValueError(
            f"{plan.name} was written again and differs from before: images changed since; remove "
            f"{journal.path} to begin anew"
        )


def _kept(plan: TarPlan, packed: dict[str, Any], ledger: Ledger) -> Iterator[Record]:
    dropped = packed["dropped"]
    for key, record in plan.samples:
        if key in dropped:
            ledger.drop(record.id, *dropped[key])
        else:
            ledger.keep()
            yield record


# ---- one tar, in any process


def _pack(plan: TarPlan, *, folder: Path, image_root: Path, check_images: bool) -> dict[str, Any]:
    """Write one tar; its hash, and which samples are not in it and why, for the journal."""
    dropped: dict[str, tuple[str, str]] = {}
    for torn in folder.glob(f".{plan.name}.*.partial"):  # of a writer that was killed
        torn.unlink(missing_ok=True)

    def members() -> Iterator[tuple[str, bytes]]:
        for key, record in plan.samples:
            try:
                data, extension = _read_image(record, image_root, check_images)
            except _Unusable as error:
                dropped[key] = (error.reason, error.detail)
                continue
            row = json.dumps(record_to_json(record), ensure_ascii=False, allow_nan=False)
            yield f"{key}.{extension}", data
            yield f"{key}.json", row.encode()

    write_tar(folder / plan.name, members())
    return {
        "sha256": sha256_of(folder / plan.name),
        "dropped": {key: list(why) for key, why in dropped.items()},
    }


class _Unusable(Exception):
    """An image that cannot go into a tar, and why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def _read_image(record: Record, root: Path, check: bool) -> tuple[bytes, str]:
    """The bytes of a record's image, and the extension for its format."""
    if record.image is None:
        raise _Unusable("record without an image", "")
    path = resolve_inside(root, record.image)
    try:
        opened = locate(path)
        data = opened.getvalue() if isinstance(opened, io.BytesIO) else Path(opened).read_bytes()
        if check:
            load_image(path, (record.width, record.height))
    except FileNotFoundError:
        raise _Unusable("no image file", record.image) from None
    except SizeMismatch as error:
        raise _Unusable("image of another size than its record says", str(error)) from error
    except (UnreadableImage, OSError) as error:
        raise _Unusable("unreadable image", str(error)) from error
    return data, _extension(record.image, data)


def _extension(name: str, data: bytes) -> str:
    """The extension of an image's name, or of its format where it has none that says so."""
    if not data:
        raise _Unusable("unreadable image", f"{name}: an empty file")
    extension = os.path.splitext(name)[1].lower().removeprefix(".")
    if extension in IMAGE_EXTENSIONS:
        return extension
    try:
        with Image.open(io.BytesIO(data)) as image:
            found = (image.format or "").lower()
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise _Unusable("unreadable image", f"{name}: {error}") from error
    if found not in IMAGE_EXTENSIONS:
        raise _Unusable("unreadable image", f"{name}: a file of format {found or 'unknown'}")
    return found
