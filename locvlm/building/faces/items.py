"""The files or tars of a build, one after another, those that an earlier start has done left as they are."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from locvlm.building.faces.files import Blurring
from locvlm.building.journal import Journal
from locvlm.building.parallel import map_in_order
from locvlm.io import record_from_json, record_to_json
from locvlm.records import Record

Blur = Callable[[str, Blurring], list[Record]]  # `blur_file` or `blur_tar`


def blur_items(
    blur: Blur, names: Sequence[str], how: Blurring, *, journal: Journal, workers: int = 0
) -> Iterator[Record]:
    """The records of all items, in their order; what the journal does not have, or has lost, is done now."""
    todo = {name: None for name in names if not _stands(name, how, journal)}
    results = map_in_order(partial(_records_of, blur=blur, how=how), todo, workers)
    for name in names:
        if name in todo:
            rows = next(results)
            if name not in journal:
                journal.add(name, {"records": rows})
        else:
            rows = journal[name]["records"]
        yield from (record_from_json(row, where=name) for row in rows)


def _stands(name: str, how: Blurring, journal: Journal) -> bool:
    if name not in journal:
        return False
    is_dropped = all("dropped" in row["source"] for row in journal[name]["records"])
    return is_dropped or (how.out / name).is_file()


def _records_of(name: str, *, blur: Blur, how: Blurring) -> list[dict[str, Any]]:
    return [record_to_json(record) for record in blur(name, how)]
