"""Judged answers and the verdicts on disk -> judged answers with their verdicts, all by one judge.

An answer that is not there (an unreadable frame, an empty text) is not sent to the judge: it is wrong and
scores 0. So is one about which the judge's reply cannot be read. Both are counted apart.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from locvlm.evals.judged import Judged
from locvlm.evals.judging.rubric import Pair, read_reply
from locvlm.evals.judging.verdicts import Judge, Replies, Unjudged, Verdict, read_verdicts
from locvlm.evals.measures.verdicts import NEED_VERDICTS
from locvlm.evals.parse import Unanswered, Unreadable
from locvlm.evals.task import Task


def needs_verdicts(task: Task) -> bool:
    """Whether a judge has to read the answers to a task."""
    return bool(NEED_VERDICTS.intersection(task.metrics))


def pair_of(row: Judged) -> Pair | None:
    """What the judge is asked about; None where there is no answer."""
    if isinstance(row.reading, Unanswered | Unreadable):
        return None
    question = row.source.get("question", row.prediction.question)  # as the data set has it, without a prompt
    return Pair(question, row.prediction.gold["answer"], row.prediction.answer.strip())


def pairs_of(rows: Iterable[Judged]) -> list[Pair]:
    """What there is to judge, each pair once, in order."""
    return list(dict.fromkeys(pair for row in rows if (pair := pair_of(row)) is not None))


def attach_verdicts(rows: Sequence[Judged], folder: Path, *, judge: str = "") -> list[Judged]:
    """The rows with the verdicts of the one judge that has judged them all.

    Args:
        folder: of the evaluation.
        judge: its name, version or model, where several have.

    Returns:
        Rows whose verdict is `Unjudged`, and says why, if there is no such judge.
    """
    found = read_verdicts(folder)
    named = {
        who: replies for who, replies in found.items() if judge in ("", who.name, who.version, who.model)
    }
    pairs = set(pairs_of(rows))
    complete = [who for who, replies in named.items() if pairs <= replies.keys()]
    if len(complete) != 1:
        why = Unjudged(_why_unjudged(named, pairs, complete, folder))
        return [replace(row, verdict=why) for row in rows]
    (who,) = complete
    return [replace(row, verdict=_verdict(who, pair_of(row), named[who])) for row in rows]


def _why_unjudged(
    named: Mapping[Judge, Replies], pairs: set[Pair], complete: Sequence[Judge], folder: Path
) -> str:
    if complete:
        names = ", ".join(sorted(who.name for who in complete))
        return f"judged by several, whose figures are not of one scale: name one with --judge: {names}"
    command = f"run eval/judge.py --output-dir {folder}"
    if not named:
        return f"not judged; {command}"
    done, who = max(
        ((len(pairs & replies.keys()), who) for who, replies in named.items()), key=lambda x: x[0]
    )
    return f"{done:,} of {len(pairs):,} are judged, by {who.name}; {command} for the rest"


def _verdict(judge: Judge, pair: Pair | None, replies: Replies) -> Verdict:
    if pair is None:
        return Verdict(judge=judge, note="no answer")
    grade = read_reply(replies[pair])
    if grade is None:
        return Verdict(judge=judge, note="unreadable reply")
    return Verdict(judge=judge, says_yes=grade.says_yes, score=grade.score)


def of_one_judge(pairs: Sequence[tuple[Judged, Judged]]) -> list[tuple[Judged, Judged]]:
    """The same questions of two runs; without verdicts, unless one judge gave those of both."""
    judges = [{_judge_of(row) for row in rows} for rows in zip(*pairs, strict=True)]
    if len(set().union(*judges)) <= 1:
        return list(pairs)
    names = " and by ".join(", ".join(sorted(of_run)) for of_run in judges)
    why = Unjudged(f"judged by {names}, whose figures are not of one scale; judge both by one: eval/judge.py")
    return [(replace(first, verdict=why), replace(second, verdict=why)) for first, second in pairs]


def _judge_of(row: Judged) -> str:
    return row.verdict.judge.name if isinstance(row.verdict, Verdict) else "nobody"


def describe_verdicts(rows: Iterable[Judged]) -> dict[str, Any]:
    """Who judged, and about how many answers they said nothing; empty where nobody did."""
    verdicts = [row.verdict for row in rows if isinstance(row.verdict, Verdict)]
    if not verdicts:
        return {}
    notes = Counter(verdict.note for verdict in verdicts)
    return {
        **asdict(verdicts[0].judge),
        "name": verdicts[0].judge.name,
        "unreadable_replies": notes["unreadable reply"],
        "without_answer": notes["no answer"],
    }
