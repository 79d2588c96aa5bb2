"""Which files there are to work on: in a folder, in a zip, or in a list."""

import argparse
import hashlib
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from locvlm.annotations.instruct import read_llava_entries
from locvlm.data.archive import require_readable_root
from locvlm.data.video import VIDEO_EXTENSIONS


def list_files(root: Path, extensions: Collection[str]) -> list[str]:
    """Paths, relative to `root`, of the files in a folder or zip that have one of these extensions, sorted.

    Hidden files and folders are left out.

    Raises:
        ValueError: if there is no such folder or zip, or no such file in it.
    """
    if root.is_dir():
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [path.as_posix() for path in found]
    else:
        require_readable_root(root)
        if not zipfile.is_zipfile(root):
            raise ValueError(f"no such folder or zip: {root}")
        with zipfile.ZipFile(root) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    kept = sorted(name for name in names if _is_wanted(PurePosixPath(name), extensions))
    if not kept:
        raise ValueError(f"{root} holds no file that ends in {', '.join(extensions)}, of {len(names)} files")
    return kept


def read_list(path: Path, *, key: str = "image") -> list[str]:
    """Paths that a file lists: a text file with one a line, or LLaVA JSON; each once, in their order.

    Args:
        key: of the entries of LLaVA JSON that holds the path; entries without it are skipped.

    Raises:
        ValueError: if there is none, or an entry is no path.
    """
    if path.suffix in (".json", ".jsonl"):
        named = [
            (where, entry.get(key)) for where, entry in read_llava_entries(path) if isinstance(entry, dict)
        ]
    else:
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        named = [(f"{path}:{number}", line.strip() or None) for number, line in lines]
    names: dict[str, None] = {}
    for where, name in named:
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{where}: {key!r} must be a path, got {name!r}")
        if name is not None:
            names[name] = None
    if not names:
        raise ValueError(f"{path} lists no {key}; expected a path a line, or LLaVA JSON")
    return list(names)


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """The options that `list_videos` reads, and how many frames of each are taken."""
    parser.add_argument("--videos", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--video-list", type=Path, help="only these, a path a line")
    parser.add_argument("--num-frames", type=int, default=8)


def list_videos(args: argparse.Namespace) -> list[str]:
    """The videos of the list, or of the folder; see `read_list` and `list_files`."""
    return read_list(args.video_list) if args.video_list else list_files(args.videos, VIDEO_EXTENSIONS)


def hash_of_names(names: Iterable[str]) -> str:
    """A hash of a list of paths, so that a build notices when its folder has other files."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _is_wanted(path: PurePosixPath, extensions: Collection[str]) -> bool:
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not is_hidden and path.suffix.lower().lstrip(".") in extensions
