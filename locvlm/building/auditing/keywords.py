"""How often words occur in conversations, question-answer pairs and single messages (LocVLM app. F, Tab. 14).

The paper counts 80,000 conversations of LLaVA's data, with 221,333 pairs; its section 4.2 gives other shares
of "left" and "right", which fit only single messages as what they are of.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from locvlm.records import Sample

UNITS = ("conversations", "pairs", "messages")
TEMPLATES = ("{}", "the {}", "{} side", "to the {}")
KEYWORDS = ("left", "right")
# as printed: phrase -> conversations that hold it; the share of "the right" is misprinted as 1.54%
PAPER_UNITS = {"conversations": 80_000, "pairs": 221_333}
PAPER = {
    **{"left": 1619, "the left": 171, "left side": 75, "to the left": 80},
    **{"right": 5001, "the right": 1314, "right side": 110, "to the right": 93},
}
PAPER_SHARES = {"left": 0.0037, "right": 0.0113}  # section 4.2, "of its conversations"


@dataclass(kw_only=True)
class KeywordCounts:
    """What was counted.

    units        conversations, pairs and messages read
    holding      phrase -> of these, how many hold it
    occurrences  phrase -> how often it stands anywhere
    """

    units: Counter[str] = field(default_factory=Counter)
    holding: dict[str, Counter[str]]
    occurrences: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "units": {unit: self.units[unit] for unit in UNITS},
            "phrases": {
                phrase: {**{unit: held[unit] for unit in UNITS}, "occurrences": self.occurrences[phrase]}
                for phrase, held in self.holding.items()
            },
        }


def phrases_of(keywords: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[str]:
    """Every keyword in every template, in this order.

    Raises:
        ValueError: for a template without the place of the keyword, or an empty keyword.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"a template holds {{}} once, where the keyword goes, got {template!r}")
    if not all(word.strip() for word in keywords):
        raise ValueError(f"a keyword is a word or several, got {list(keywords)}")
    return list(dict.fromkeys(template.replace("{}", word) for word in keywords for template in templates))


def count_keywords(
    samples: Iterable[Sample], phrases: Sequence[str], *, inside_words: bool = False
) -> KeywordCounts:
    """Count the phrases, upper or lower case, any white space between their words.

    Args:
        inside_words: "right" also stands in "brightly".
    """
    patterns = {phrase: _pattern(phrase, inside_words) for phrase in phrases}
    counts = KeywordCounts(holding={phrase: Counter() for phrase in phrases})
    for sample in samples:
        turns = [turn for branch in sample.branches for turn in branch]
        counts.units.update(conversations=1, pairs=len(turns), messages=2 * len(turns))
        found_here: set[str] = set()
        for turn in turns:
            found_in_pair: set[str] = set()
            for text in (turn.question, turn.answer):
                found = _find(text, patterns)
                counts.occurrences.update(found)
                for phrase in found:
                    counts.holding[phrase]["messages"] += 1
                found_in_pair |= found.keys()
            for phrase in found_in_pair:
                counts.holding[phrase]["pairs"] += 1
            found_here |= found_in_pair
        for phrase in found_here:
            counts.holding[phrase]["conversations"] += 1
    return counts


def as_table(counts: KeywordCounts) -> str:
    """The counts as text, shares in percent, the paper's figures beside them where it has any."""
    has_paper = any(phrase in PAPER for phrase in counts.holding)
    head = ["", *UNITS, "occurrences", *(["paper", "section 4.2"] if has_paper else [])]
    rows = [["all", *(f"{counts.units[unit]:,}" for unit in UNITS), ""]]
    if has_paper:
        rows[0] += [f"{PAPER_UNITS['conversations']:,} ({PAPER_UNITS['pairs']:,} pairs)", "of messages"]
    for phrase, held in counts.holding.items():
        row = [phrase, *(_with_share(held[unit], counts.units[unit]) for unit in UNITS)]
        row.append(f"{counts.occurrences[phrase]:,}")
        if has_paper:
            printed = PAPER.get(phrase)
            row.append("" if printed is None else _with_share(printed, PAPER_UNITS["conversations"]))
            share = PAPER_SHARES.get(phrase)
            row.append("" if share is None else f"{share:.2%}")
        rows.append(row)
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _pattern(phrase: str, inside_words: bool) -> re.Pattern[str]:
    body = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.compile(body if inside_words else rf"(?<!\w){body}(?!\w)", re.IGNORECASE)


def _find(text: str, patterns: Mapping[str, re.Pattern[str]]) -> dict[str, int]:
    """Phrase -> how often it stands in the text, those that do."""
    found = {phrase: sum(1 for _ in pattern.finditer(text)) for phrase, pattern in patterns.items()}
    return {phrase: times for phrase, times in found.items() if times}


def _with_share(count: int, total: int) -> str:
    return f"{count:,} ({count / max(total, 1):.2%})"
