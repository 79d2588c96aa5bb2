"""From where to where faces are blurred: never onto the originals, and never among something else."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from locvlm.building.faces.ledger import ledgers_of
from locvlm.building.faces.videos import VIDEO_SUFFIXES
from locvlm.data.shards import IMAGE_EXTENSIONS

logger = logging.getLogger(__name__)


def require_new_place(source: Path, out: Path, *, overwrite: bool = False) -> None:
    """Raise unless `out` is a folder apart from `source` that is empty, or holds what an earlier start wrote.

    Raises:
        ValueError: if one lies in the other, or `out` holds files and no ledger of it stands beside.
    """
    inner, outer = out.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(
            f"blurred files never replace originals: --out {out} must lie apart from {source}, "
            f"neither in the other"
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; blurred files go into a folder")
    if not (overwrite or ledgers_of(out)) and out.is_dir() and any(out.iterdir()):
        raise ValueError(
            f"{out} holds files, and no ledger of faces stands beside it; give another --out, or --overwrite "
            f"to write among them"
        )


def list_images_and_videos(folder: Path) -> list[str]:
    """Paths, relative to `folder`, of all images and videos in it, by their names, sorted.

    Other files, hidden files, and folders behind links are left out; how many is logged.

    Raises:
        ValueError: if there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    wanted = {*VIDEO_SUFFIXES, *(f".{extension}" for extension in IMAGE_EXTENSIONS)}
    names = sorted(_files_in(folder))
    kept = [
        name for name in names if os.path.splitext(name)[1].lower() in wanted and not f"/{name}".count("/.")
    ]
    if not kept:
        raise ValueError(
            f"{folder} holds no image and no video, of {len(names)} files; expected names that end in "
            f"{', '.join(sorted(wanted))}"
        )
    if others := sorted(set(names).difference(kept)):
        logger.warning(
            "%s: %d files are hidden, or by their names neither image nor video, and left out, such as %s",
            folder,
            len(others),
            others[0],
        )
    return kept


def fingerprint(folder: Path, names: Sequence[str]) -> str:
    """A hash of names and sizes of files, so that a build notices when there are others; missing ones too."""
    digest = hashlib.sha256()
    for name in names:
        size = (folder / name).stat().st_size if (folder / name).is_file() else -1
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files_in(folder: Path) -> Iterator[str]:
    for place, _, files in os.walk(folder):
        for file in files:
            yield Path(place, file).relative_to(folder).as_posix()
