"""What stands beside a built file: how it was made, from what, and what was left out."""

import logging
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from locvlm import __version__
from locvlm.io import read_json, write_json
from locvlm.objectives.select import class_gap
from locvlm.records import Record

logger = logging.getLogger(__name__)
PROMPT_ONLY_LIMIT = 0.55  # what a guess from the prompt alone may reach; 0.5 is chance
ENOUGH_NEGATIVES = 1000  # below, the measured figures are mostly chance


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What decides a built output: arguments by name (plain values), and inputs by path (their SHA-256)."""

    arguments: dict[str, Any]
    inputs: dict[str, str]

    def key(self) -> dict[str, Any]:
        """What has to be equal for outputs to be the same; where the inputs lie does not matter."""
        return {
            "arguments": {name: self._by_content(value) for name, value in self.arguments.items()},
            "inputs": dict(enumerate(self.inputs.values())),
        }

    def _by_content(self, value: Any) -> Any:
        """An argument with every input that it names as that input's SHA-256."""
        if isinstance(value, list):
            return [self._by_content(item) for item in value]
        return self.inputs.get(value, value) if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What stands beside an output.

    sha256         of the output, "" for a folder
    ledgers        what was kept and dropped while this part was built, by reason; parts add up
    input_ledgers  the same about the whole input, alike for all parts
    counts         what came out; parts add up
    facts          what was found out about the whole input, alike for all parts
    """

    sha256: str
    made: Made
    ledgers: list[dict[str, Any]] = field(default_factory=list)
    input_ledgers: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def manifest_path(output: str | Path) -> Path:
    """Where the manifest of an output stands."""
    return Path(f"{output}.manifest.json")


def write_manifest(output: str | Path, manifest: Manifest) -> None:
    """Write it; it holds no times, so the same inputs and arguments give the same file."""
    row = {spec.name: getattr(manifest, spec.name) for spec in fields(manifest)}  # asdict breaks Counters
    made = asdict(row.pop("made"))
    write_json(
        manifest_path(output),
        {
            "output": Path(output).name,
            "sha256": row.pop("sha256"),
            **made,
            "versions": {"locvlm": __version__, "python": platform.python_version()},
            **row,
        },
    )


def read_manifest(output: str | Path) -> Manifest:
    """The manifest of an output.

    Raises:
        ValueError: if there is none, or it has other fields.
    """
    path = manifest_path(output)
    if not path.is_file():
        raise ValueError(f"{output} has no manifest {path.name} beside it; is it the output of a builder?")
    row = read_json(path)
    expected = [spec.name for spec in fields(Manifest) if spec.name != "made"]
    missing = [name for name in (*expected, "arguments", "inputs") if name not in row]
    if missing:
        raise ValueError(f"{path}: no {missing[0]!r} in it; it is of another version, build again")
    made = Made(arguments=row["arguments"], inputs=row["inputs"])
    return Manifest(made=made, **{name: row[name] for name in expected})


class RecordCounts:
    """Counts records as they pass by, for the manifest."""

    def __init__(self) -> None:
        self.num_records = 0
        self.queries: Counter[str] = Counter()  # objective -> questions
        self.classes: dict[str, Counter[str]] = {"locpred": Counter(), "negpred": Counter()}
        self.lengths: dict[str, Counter[int]] = {"locpred": Counter(), "negpred": Counter()}  # in words
        self.has_phrases = False  # that are no class labels
        self.sides: Counter[str] = Counter()

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, counted as they pass."""
        for record in records:
            self.add(record)
            yield record

    def add(self, record: Record) -> None:
        """Count one more."""
        self.num_records += 1
        for query in record.queries:
            self.queries[query.objective] += 1
            if query.objective in self.classes:
                self.classes[query.objective][query.category] += 1
                self.lengths[query.objective][len(query.phrase.split())] += 1
                self.has_phrases |= query.phrase != query.category
        if "side" in record.source:
            self.sides[record.source["side"]] += 1

    @property
    def prompt_only_accuracy(self) -> float:
        """How well the class alone tells absent from present, see `class_gap`."""
        return class_gap(self.classes["locpred"], self.classes["negpred"])

    @property
    def prompt_only_accuracy_by_length(self) -> float:
        """How well the number of words of what is asked for tells absent from present."""
        return class_gap(self.lengths["locpred"], self.lengths["negpred"])

    def warn_if_prompts_tell(self) -> None:
        """Log a warning where the prompt alone tells absent from present, and there are enough to know."""
        accuracy = max(self.prompt_only_accuracy, self.prompt_only_accuracy_by_length)
        if self.queries["negpred"] >= ENOUGH_NEGATIVES and accuracy > PROMPT_ONLY_LIMIT:
            logger.warning(
                "the prompt alone tells absent from present in %.0f%% of questions; fewer negatives per "
                "image, or --negatives proportional, bring this closer to 50%%",
                100 * accuracy,
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        counts: dict[str, Any] = {"records": self.num_records, "queries": dict(sorted(self.queries.items()))}
        if self.queries["negpred"]:
            counts["prompt_only_accuracy"] = round(self.prompt_only_accuracy, 4)
            if self.has_phrases:
                by_length = round(self.prompt_only_accuracy_by_length, 4)
                counts["prompt_only_accuracy_by_length"] = by_length
        if self.sides:
            counts["answers"] = dict(sorted(self.sides.items()))
        return counts
