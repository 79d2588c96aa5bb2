"""An audit as plain values, and as text for the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm import __version__
from locvlm.building.auditing.boxes import box_statistics, quantiles_of
from locvlm.building.auditing.entries import files_of
from locvlm.building.auditing.images import Leak
from locvlm.building.auditing.prompt_classifier import Guess
from locvlm.building.auditing.tally import Tally
from locvlm.building.auditing.verdicts import Verdict
from locvlm.io import Ledger, sha256_of

if TYPE_CHECKING:
    from locvlm.building.auditing.tokens import Lengths  # loads transformers

_CLASSES_SHOWN = 10
_SHARED_SHOWN = 20  # keys of leaked images written down, for each evaluation


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything that was found out about a file."""

    file: Path
    tally: Tally
    read: Ledger
    verdicts: list[Verdict]
    guess: Guess | None = None
    leaks: list[Leak] | None = None
    lengths: "Lengths | None" = None

    @property
    def num_broken(self) -> int:
        """Limits that do not hold."""
        return sum(verdict.holds is False for verdict in self.verdicts)

    @property
    def boxes(self) -> dict[str, Any]:
        """See `box_statistics`."""
        return box_statistics(self.tally.objects_px())

    @property
    def tokens(self) -> dict[str, dict[str, float]] | None:
        """Quantiles of a sample's tokens, as a packed row holds it, and of its longest dialogue."""
        if self.lengths is None or not len(self.lengths.packed):
            return None
        return {name: quantiles_of(getattr(self.lengths, name)) for name in ("packed", "longest")}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tally, guess = self.tally, self.guess
        return {
            "file": self.file.name,
            "sha256": {path.name: sha256_of(path) for path in files_of(self.file)},
            "version": __version__,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "read": self.read.to_dict(),
            "entries": tally.num_entries,
            "images": len(tally.image_times) - tally.num_videos,
            "videos": tally.num_videos,
            "queries": dict(tally.counts.queries.most_common()),
            "questions_per_entry": {str(n): count for n, count in sorted(tally.questions.items())},
            "objects_by_class": dict(tally.objects.most_common()),
            "boxes": self.boxes,
            "box_faults": dict(tally.box_faults),
            "words_asked_for": {
                kind: {str(n): count for n, count in sorted(lengths.items())}
                for kind, lengths in tally.counts.lengths.items()
            },
            "telling": guess and {"absent": guess.telling_absent, "present": guess.telling_present},
            "leaks": [
                {
                    "file": leak.file,
                    "images": leak.num_images,
                    "shared": len(leak.shared),
                    "examples": leak.shared[:_SHARED_SHOWN],
                }
                for leak in self.leaks or ()
            ],
            "tokens": self.tokens,
            "not_tokenized": self.lengths and self.lengths.ledger.to_dict(),
        }

    def as_text(self) -> str:
        """What is printed."""
        tally, boxes = self.tally, self.boxes
        queries = ", ".join(f"{count:,} {name}" for name, count in tally.counts.queries.most_common())
        lines = [
            f"{self.file}: {tally.num_entries:,} entries about {len(tally.image_times):,} images or videos, "
            f"{tally.num_questions:,} questions ({queries})"
        ]
        if boxes["num_objects"]:
            sizes = ", ".join(f"{count:,} {name}" for name, count in boxes["size_classes"].items())
            most = ", ".join(f"{name} {n:,}" for name, n in tally.objects.most_common(_CLASSES_SHOWN))
            lines += [
                f"{boxes['num_objects']:,} objects with a box: {sizes}; the median takes "
                f"{boxes['quantiles']['area']['50%']:.1%} of its image",
                f"{len(tally.objects):,} classes, the most frequent: {most}",
            ]
        if self.tokens:
            lines += [
                f"tokens of a sample, {what}: median {found['50%']:,.0f}, 95% up to {found['95%']:,.0f}, "
                f"most {found['max']:,.0f}"
                for what, found in zip(("packed", "longest dialogue"), self.tokens.values(), strict=True)
            ]
        if self.lengths and self.lengths.ledger.num_dropped:
            lines.append(self.lengths.ledger.summary())
        return "\n".join([*lines, "", *map(str, self.verdicts)])
