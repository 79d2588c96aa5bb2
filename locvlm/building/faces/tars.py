"""A tar shard in webdataset's layout -> the same shard with faces blurred, and a record of each image in it.

Samples keep their order and names. A sample with an image that cannot be used, or with a video, is left out
whole, since its text would name an image that is not there.
"""

import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import replace

from locvlm.building.faces.files import Blurring, blur_image_bytes
from locvlm.building.faces.ledger import dropped_record
from locvlm.building.faces.videos import VIDEO_SUFFIXES
from locvlm.building.shard_writer import write_tar
from locvlm.data.archive import tar_member
from locvlm.data.shards import IMAGE_EXTENSIONS, index_tar
from locvlm.records import Record


def blur_tar(name: str, how: Blurring) -> list[Record]:
    """Write the counterpart of the tar `name` of the source; a record of each of its images.

    Raises:
        ValueError: see `index_tar`, for a tar that is cut off, compressed, or in another layout.
    """
    index_tar(how.source / name)
    records: list[Record] = []

    def members() -> Iterator[tuple[str, bytes]]:
        for _, sample in itertools.groupby(_files(how, name), lambda member: _key(member[0])):
            done = [_blur_member(member, data, how) for member, data in sample]
            found = [record for record, _, _ in done if record is not None]
            unusable = [record for record in found if record.image is None]
            records.extend(unusable[:1] or found)
            if not unusable:
                yield from ((member, data) for _, member, data in done)

    written = write_tar(how.out / name, members())
    places = {member.name: tar_member(name, *member) for member in written}
    return [
        replace(record, id=f"{name}/{record.id}", image=places.get(record.id) if record.image else None)
        for record in records
    ]


def _files(how: Blurring, name: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the members that belong to a sample."""
    with tarfile.open(how.source / name, "r:") as tar:
        while (info := tar.next()) is not None:
            if info.isfile() and _key(info.name):
                member = tar.extractfile(info)
                assert member is not None
                yield info.name, member.read()
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them


def _key(name: str) -> str:
    """ "train/000.seg.png" -> "train/000"; empty for a file that is hidden or has no extension."""
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.partition(".")
    return f"{folder}{slash}{stem}" if stem and dot else ""


def _blur_member(name: str, data: bytes, how: Blurring) -> tuple[Record | None, str, bytes]:
    """(record, name, bytes to write) of a member; no record of one that is neither image nor video."""
    extension = name.rpartition(".")[2].lower()
    if f".{extension}" in VIDEO_SUFFIXES:
        return (
            dropped_record(name, "a video in a shard", "put videos in a folder to have them blurred"),
            name,
            b"",
        )
    if extension not in IMAGE_EXTENSIONS:
        return None, name, data
    record, written = blur_image_bytes(name, data, how)
    return record, name, data if written is None else written
