"""What a language model says of free answers, by Video-ChatGPT's rubric: how many are right, and how well.

Video-ChatGPT asks until it can read the reply; here a reply that cannot be read, and an answer that is not
there, are wrong and score 0.
"""

from collections.abc import Sequence

from locvlm.evals.judged import Judged, MetricUnavailable
from locvlm.evals.judging.verdicts import Verdict

NEED_VERDICTS = frozenset({"judge_accuracy", "judge_score"})


def judge_accuracy(rows: Sequence[Judged]) -> float:
    """Share of answers that the judge calls right."""
    verdicts = _verdicts(rows)
    return sum(verdict.says_yes for verdict in verdicts) / len(verdicts) if verdicts else 0.0


def judge_score(rows: Sequence[Judged]) -> float:
    """Mean score, 0 to 5."""
    verdicts = _verdicts(rows)
    return sum(verdict.score for verdict in verdicts) / len(verdicts) if verdicts else 0.0


def _verdicts(rows: Sequence[Judged]) -> list[Verdict]:
    """Those of all rows.

    Raises:
        MetricUnavailable: if one has none, with the reason, or they are of several judges.
    """
    verdicts: list[Verdict] = []
    for row in rows:
        if not isinstance(row.verdict, Verdict):
            raise MetricUnavailable(row.verdict.reason if row.verdict else "not judged; run eval/judge.py")
        verdicts.append(row.verdict)
    judges = {verdict.judge for verdict in verdicts}
    if len(judges) > 1:
        names = ", ".join(sorted(judge.name for judge in judges))
        raise MetricUnavailable(f"verdicts of several judges ({names}) are not of one scale")
    return verdicts
