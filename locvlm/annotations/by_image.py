"""Questions that files hold one by one, brought together by their image, whose tokens they then share."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from locvlm.records import Query, Record


def records_by_image(
    asked: Iterable[tuple[str, Query]], *, source: dict[str, Any], nothing: str = ""
) -> Iterator[Record]:
    """One record per image with all that is asked about it, in order of appearance; images have no size.

    Args:
        asked: (path of the image, question).
        source: of every record.
        nothing: message of the error if nothing is asked; without it that is no error.

    Raises:
        ValueError: for two images with one name in different folders, as it is what tells records apart.
    """
    queries: dict[str, list[Query]] = {}
    for image, query in asked:
        queries.setdefault(image, []).append(query)
    if nothing and not queries:
        raise ValueError(nothing)
    seen: dict[str, str] = {}
    for image, of_image in queries.items():
        record_id = PurePosixPath(image).stem
        if seen.setdefault(record_id, image) != image:
            raise ValueError(f"two images with the name {record_id}: {seen[record_id]} and {image}")
        yield Record(id=record_id, image=image, queries=tuple(of_image), source=dict(source))
