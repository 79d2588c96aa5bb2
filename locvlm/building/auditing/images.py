"""Images that occur more than once, as names and as files, and images that evaluations ask about."""

import hashlib
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from locvlm.annotations.image_names import image_key, is_only_a_place, read_image_keys
from locvlm.annotations.refcoco_forms import load_referents
from locvlm.building.auditing.entries import is_image_key
from locvlm.data.archive import locate, require_readable_root
from locvlm.io import first_character, resolve_inside

_TAIL_BYTES = 4096  # at the end of a file: equal files are equal there, and others hardly ever
_TRAINING_SPLIT = "train"


class _VqaQuestion(msgspec.Struct, gc=False):
    image_id: int


class _VqaFile(msgspec.Struct):
    questions: list[_VqaQuestion]


class _GqaQuestion(msgspec.Struct, gc=False):
    imageId: str


class _Referred(msgspec.Struct, gc=False):
    sentences: Any = None  # of UNC's refs
    sents: Any = None  # of rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """What one evaluation file has in common with the audited one."""

    file: str
    num_images: int  # that it asks about
    shared: tuple[str, ...]  # keys of the images that are in both, in order


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """Image files looked at: how many, which are missing, and which are equal to an earlier one."""

    num_files: int
    missing: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]  # (file, the earlier one that it is equal to)


def read_evaluation_keys(path: Path) -> frozenset[str]:
    """`image_key` of every image that an evaluation asks about. The content tells the form:

    VQAv2's and GQA's questions; RefCOCO, + and g in any form, without the images of a split "train"; and what
    `read_image_keys` knows: POPE, records, COCO files, lists of names.

    Raises:
        ValueError: naming the file, if it is missing, of another form, or names no image that can be known
            again.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}; --evaluation takes questions, annotations and lists of images")
    keys = _keys_of(path)
    known = frozenset(key for key in keys if not is_only_a_place(key))
    if not known:
        raise ValueError(
            f"{path}: names no image that can be known again in another set; "
            f"it names {min(keys, default='none')}"
        )
    return known


def read_evaluations(paths: Sequence[Path]) -> dict[str, frozenset[str]]:
    """Name of the file, or its path where two have one name -> `read_evaluation_keys`."""
    times = Counter(path.name for path in paths)
    return {path.name if times[path.name] == 1 else str(path): read_evaluation_keys(path) for path in paths}


def find_leaks(
    keys: Collection[str],
    evaluations: Mapping[str, frozenset[str]],
    genome: Mapping[str, str] | None = None,
) -> list[Leak]:
    """What each evaluation shares with the entries of these keys.

    Args:
        evaluations: name -> keys of the images that it asks about.
        genome: key of a Visual Genome image -> that of the same image in COCO.
    """
    genome = genome or {}
    ours = {genome.get(key, key) for key in keys if is_image_key(key)}
    leaks = []
    for name, asked in evaluations.items():
        theirs = {genome.get(key, key) for key in asked}
        leaks.append(Leak(file=name, num_images=len(theirs), shared=tuple(sorted(ours & theirs))))
    return leaks


def require_image_root(root: Path) -> None:
    """Raise ValueError if `root` is neither a folder nor a readable zip."""
    require_readable_root(root)
    if not root.is_dir() and root.suffix.lower() != ".zip":
        raise ValueError(f"no folder {root}; --image-root is where the images lie, or a zip of them")


def find_copies(root: Path, images: Iterable[str]) -> Copies:
    """The images whose files are equal, byte for byte, or not there; a path out of `root` is not there.

    Only files of the same size and the same end are read whole.
    """
    alike: dict[tuple[int, bytes], list[str]] = {}
    missing, num_files = [], 0
    for name in images:
        try:
            with _open(root, name) as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                end = hashlib.blake2b(file.read(), digest_size=16).digest()
        except (OSError, ValueError):
            missing.append(name)
        else:
            alike.setdefault((size, end), []).append(name)
            num_files += 1
    copies = [pair for names in alike.values() if len(names) > 1 for pair in _equal(root, names)]
    return Copies(num_files=num_files, missing=tuple(missing), copies=tuple(copies))


def _equal(root: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    first: dict[bytes, str] = {}
    for name in names:
        with _open(root, name) as file:
            digest = hashlib.sha256(file.read()).digest()
        if (earlier := first.setdefault(digest, name)) != name:
            yield name, earlier


def _open(root: Path, name: str) -> IO[bytes]:
    found = locate(resolve_inside(root, name))
    return found if isinstance(found, io.BytesIO) else open(found, "rb")


def _keys_of(path: Path) -> frozenset[str]:
    start = first_character(path)
    if start == "{":
        data = path.read_bytes()
        if (vqa := _decoded(data, _VqaFile)) is not None:
            return frozenset(f"coco {question.image_id}" for question in vqa.questions)
        if gqa := _decoded(data, dict[str, _GqaQuestion]):
            return frozenset(image_key(f"{question.imageId}.jpg") for question in gqa.values())
        return read_image_keys(path)
    if start == "[":
        rows = _decoded(path.read_bytes(), list[_Referred]) or []
        if not any(row.sentences is not None or row.sents is not None for row in rows):
            return read_image_keys(path)
    elif path.suffix not in (".p", ".pkl", ".pickle"):
        return read_image_keys(path)
    referents = (item for item in load_referents(path) if item.split != _TRAINING_SPLIT)
    return frozenset(f"coco {item.image_id}" for item in referents)


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError:
        return None
