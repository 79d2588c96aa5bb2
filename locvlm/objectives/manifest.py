"""What stands beside a built file: how it was made, from what, and what was left out."""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm import __version__
from locvlm.io import Ledger, sha256_of, write_json
from locvlm.objectives.select import class_gap
from locvlm.records import Record


def write_manifest(
    output: str | Path,
    *,
    arguments: Mapping[str, Any],
    inputs: Iterable[str | Path],
    ledgers: Sequence[Ledger],
    counts: Mapping[str, Any],
) -> Path:
    """Write `<output>.manifest.json`; it holds no times, so the same inputs and arguments give the same
    file.

    arguments  of the program, the seed among them
    inputs     files that were read; their SHA-256 is written
    ledgers    what was kept and dropped, by reason
    counts     what came out
    """
    path = Path(f"{output}.manifest.json")
    write_json(
        path,
        {
            "output": Path(output).name,
            "sha256": sha256_of(output),
            "arguments": {name: _plain(value) for name, value in arguments.items()},
            "versions": {"locvlm": __version__, "python": platform.python_version()},
            "inputs": {str(source): sha256_of(source) for source in inputs},
            "counts": dict(counts),
            "ledgers": [ledger.to_dict() for ledger in ledgers],
        },
    )
    return path


class RecordCounts:
    """Counts records as they pass by, for the manifest."""

    def __init__(self) -> None:
        self.num_records = 0
        self.queries: Counter[str] = Counter()  # objective -> questions
        self.classes: dict[str, Counter[str]] = {"locpred": Counter(), "negpred": Counter()}
        self.sides: Counter[str] = Counter()

    def counted(self, records: Iterable[Record], *, source: str | Path) -> Iterator[Record]:
        """The records, counted as they pass.

        Raises:
            ValueError: naming `source`, at the end, if there were none: raised while a file is written, it
                keeps what stood there before.
        """
        for record in records:
            self._add(record)
            yield record
        if not self.num_records:
            raise ValueError(f"{source}: nothing in it can be asked about, so there is nothing to write")

    def _add(self, record: Record) -> None:
        self.num_records += 1
        for query in record.queries:
            self.queries[query.objective] += 1
            if query.objective in self.classes:
                self.classes[query.objective][query.category] += 1
        if "side" in record.source:
            self.sides[record.source["side"]] += 1

    @property
    def prompt_only_accuracy(self) -> float:
        """How well the class alone tells absent from present, see `class_gap`."""
        return class_gap(self.classes["locpred"], self.classes["negpred"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        counts: dict[str, Any] = {"records": self.num_records, "queries": dict(sorted(self.queries.items()))}
        if self.queries["negpred"]:
            counts["prompt_only_accuracy"] = round(self.prompt_only_accuracy, 4)
        if self.sides:
            counts["answers"] = dict(sorted(self.sides.items()))
        return counts


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
