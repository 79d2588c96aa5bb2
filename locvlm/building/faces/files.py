"""One file of a folder -> its counterpart in another folder, with faces blurred, and the record of it."""

import os
import secrets
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from locvlm.building.faces.blur import Shape
from locvlm.building.faces.detect import FaceDetector
from locvlm.building.faces.ledger import (
    blurred_before_record,
    clip_record,
    dropped_record,
    hashes_of,
    still_record,
    written_before,
)
from locvlm.building.faces.stills import UnwritableImage, blur_still
from locvlm.building.faces.videos import (
    VIDEO_SUFFIXES,
    UnwritableVideo,
    find_video_faces,
    write_blurred_video,
)
from locvlm.data.image import UnreadableImage
from locvlm.data.video import UnreadableVideo
from locvlm.io import atomic_writer, resolve_inside, sha256_of
from locvlm.records import Record


@dataclass(frozen=True, kw_only=True)
class Blurring:
    """How faces are blurred, from where and to where. It is sent to worker processes.

    every           frames of a video: faces are looked for in every n-th
    link            hard-link what has no face instead of copying it
    threads         of video codecs, 0 for as many as they like
    """

    source: Path
    out: Path
    detector: FaceDetector
    shape: Shape = "ellipse"
    every: int = 1
    link: bool = False
    threads: int = 0


def blur_file(name: str, how: Blurring) -> list[Record]:
    """Write the counterpart of the file `name` of the source, blurred where it shows faces; the record of it.

    A file that cannot be used gets none, and one that an earlier build left is taken away.

    Raises:
        ValueError: for a name that leaves the source, or a file that cannot be linked.
    """
    path = resolve_inside(how.source, name)
    is_video = path.suffix.lower() in VIDEO_SUFFIXES
    try:
        record = _blur_video_file(name, path, how) if is_video else _blur_image_file(name, path, how)
    except (FileNotFoundError, IsADirectoryError):
        record = dropped_record(name, "no such file", str(path))
    if "dropped" in record.source:
        (how.out / name).unlink(missing_ok=True)
    return [record]


def blur_image_bytes(name: str, data: bytes, how: Blurring) -> tuple[Record, bytes | None]:
    """The record of an image file, and its new bytes, None if it stays as it is or is dropped."""
    sha256 = hashes_of(data, None)["sha256"]
    if sha256 in written_before(how.source):
        return blurred_before_record(name, image=name, sha256=sha256), None
    try:
        blurred = blur_still(data, how.detector, shape=how.shape)
    except UnreadableImage as error:
        return dropped_record(name, "unreadable image", str(error)), None
    except UnwritableImage as error:
        return dropped_record(name, "faces in a format that is not written", str(error)), None
    hashes = hashes_of(data, blurred.data)
    if len(blurred.faces) == 1:
        record = still_record(name, blurred.faces[0], image=name, size=blurred.size, hashes=hashes)
    else:
        record = clip_record(name, blurred.faces, image=name, size=blurred.size, hashes=hashes)
    return record, blurred.data


def clear_torn(folder: Path, names: Collection[str]) -> None:
    """Remove what a killed process left half written of the files with these names."""
    wanted = set(names)
    for place, _, files in os.walk(folder):
        for file in files:
            parts = file.removeprefix(".").rsplit(".", 2)  # .NAME.RANDOM.partial, see `atomic_writer`
            if file.startswith(".") and len(parts) == 3 and parts[2] == "partial":
                path = Path(place, file)
                if path.with_name(parts[0]).relative_to(folder).as_posix() in wanted:
                    path.unlink(missing_ok=True)


def _blur_image_file(name: str, path: Path, how: Blurring) -> Record:
    record, written = blur_image_bytes(name, path.read_bytes(), how)
    if written is not None:
        with atomic_writer(how.out / name, binary=True) as file:
            file.write(written)
    elif "dropped" not in record.source:
        _keep(path, how.out / name, link=how.link)
    return record


def _blur_video_file(name: str, path: Path, how: Blurring) -> Record:
    out = how.out / name
    hashes = {"sha256": sha256_of(path)}
    if hashes["sha256"] in written_before(how.source):
        _keep(path, out, link=how.link)
        return blurred_before_record(name, image=None, sha256=hashes["sha256"])
    try:
        found = find_video_faces(path, how.detector, every=how.every, threads=how.threads)
        if any(found.faces):
            with atomic_writer(out, binary=True) as file:
                write_blurred_video(found, file, shape=how.shape, threads=how.threads)
            hashes["written_sha256"] = sha256_of(out)
        else:
            _keep(path, out, link=how.link)
    except UnreadableVideo as error:
        return dropped_record(name, "unreadable video", str(error))
    except UnwritableVideo as error:
        return dropped_record(name, "faces in a video that cannot be written anew", str(error))
    return clip_record(name, found.faces, image=None, size=found.size, hashes=hashes)


def _keep(path: Path, out: Path, *, link: bool) -> None:
    """The same file at `out`, copied or linked; complete or not at all."""
    if not link:
        with open(path, "rb") as original, atomic_writer(out, binary=True) as file:
            shutil.copyfileobj(original, file, 1 << 20)
        return
    if out.exists() and out.samefile(path):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    try:
        os.link(os.path.realpath(path), partial)
        os.replace(partial, out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"{path} cannot be linked to {out} ({error.strerror}); leave --link out") from error
