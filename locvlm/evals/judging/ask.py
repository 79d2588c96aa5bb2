"""Pairs -> a judge's replies on disk: what is there is not asked again, and one judge's are never mixed with
another's.

Behind one name a server may put another model from one day to the next, and public figures moved by eight
points when it did. So the version that stands in the replies is part of who judged: where there are verdicts,
the replies have to come from the same version, or nothing more is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from locvlm.chat_server import ChatServer, Decoding
from locvlm.evals.judging.rubric import Pair, Rubric, read_reply
from locvlm.evals.judging.verdicts import Judge, Replies, open_verdicts, read_verdicts
from locvlm.progress import progress_bar

DECODING = Decoding(max_tokens=64, temperature=0.0)  # Video-ChatGPT leaves both to the server
_DESCRIBED = f"temperature {DECODING.temperature:g}, at most {DECODING.max_tokens} tokens"


class JudgeChanged(ValueError):
    """The server answers under another version than before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judging:
    """What is known of a judge before it is asked.

    `judge` is None where no verdict of it is known: its version shows in its first reply.
    """

    folder: Path  # of the evaluation
    rubric: Rubric
    model: str
    judge: Judge | None
    replies: Replies  # in `folder`
    reused: Replies  # in other folders

    def missing(self, pairs: Iterable[Pair], *, ask_again: bool = False) -> list[Pair]:
        """Those without a reply; with `ask_again`, those whose reply cannot be read, too."""
        known = {**self.reused, **self.replies}
        return [
            pair for pair in pairs if pair not in known or (ask_again and read_reply(known[pair]) is None)
        ]

    def take_over(self, pairs: Iterable[Pair]) -> int:
        """Write down here what only other folders have of these pairs; how many they are."""
        wanted = [pair for pair in pairs if pair in self.reused and pair not in self.replies]
        if wanted and self.judge is not None:
            with open_verdicts(self.folder, self.judge) as verdicts:
                for pair in wanted:
                    verdicts.add(pair, self.reused[pair])
        return len(wanted)


def find_judging(
    folder: Path, rubric: Rubric, model: str, *, version: str = "", reuse: Sequence[Path] = ()
) -> Judging:
    """What the judge `model` has replied by this rubric, in `folder` and in those that are reused.

    Args:
        version: of the judge, where there are verdicts of several, or the server has changed.
        reuse: other evaluation folders.

    Raises:
        ValueError: if there are verdicts of several versions and none is named.
    """

    def of_this(verdicts: Mapping[Judge, Replies]) -> dict[Judge, Replies]:
        asked = (model, rubric.label, _DESCRIBED)
        return {
            judge: replies
            for judge, replies in verdicts.items()
            if (judge.model, judge.rubric, judge.decoding) == asked and version in ("", judge.version)
        }

    here = of_this(read_verdicts(folder))
    others = [of_this(read_verdicts(other)) for other in reuse]
    judges = {judge for verdicts in (here, *others) for judge in verdicts}
    if len(judges) > 1:
        names = ", ".join(sorted(judge.version for judge in judges))
        raise ValueError(
            f"there are verdicts of several versions of {model} ({names}), whose figures are not of one "
            f"scale; name the one to go on with: --judge-version"
        )
    judge = next(iter(judges), _judge(rubric, model, version) if version else None)
    reused: Replies = {}
    for verdicts in others:
        for replies in verdicts.values():
            reused.update(replies)
    return Judging(
        folder=folder,
        rubric=rubric,
        model=model,
        judge=judge,
        replies=here.get(judge, {}) if judge else {},
        reused=reused,
    )


def _judge(rubric: Rubric, model: str, version: str) -> Judge:
    return Judge(model=model, version=version, rubric=rubric.label, decoding=_DESCRIBED)


def ask_judge(judging: Judging, server: ChatServer, pairs: Sequence[Pair]) -> Judge:
    """Ask about every pair (at least one), and write each reply down as it comes; who judged.

    Raises:
        JudgeChanged: if a reply is of another version than the verdicts that are here.
        ServerError: if the server refuses to work or seems to be down.
        ValueError: if some pairs got no reply; the next start asks them again.
    """
    judge, failures = judging.judge, list[str]()
    questions = (judging.rubric.ask(pair) for pair in pairs)
    with ExitStack() as stack:
        verdicts = None if judge is None else stack.enter_context(open_verdicts(judging.folder, judge))
        bar = stack.enter_context(progress_bar(what="judging", total=len(pairs), unit="answer"))
        for pair, reply in zip(pairs, server.ask_all(questions, DECODING), strict=True):
            bar.update()
            if reply.failure:
                failures.append(reply.failure)
                continue
            judge = judge or _judge(judging.rubric, judging.model, reply.model)
            if reply.model != judge.version:
                raise JudgeChanged(_changed(judge, reply.model))
            verdicts = verdicts or stack.enter_context(open_verdicts(judging.folder, judge))
            verdicts.add(pair, reply.text)
    if failures:
        raise ValueError(
            f"{len(failures)} of {len(pairs)} answers got no verdict, the last because: {failures[-1]}. "
            f"Start again: only these are asked"
        )
    assert judge is not None, "no pairs"
    return judge


def _changed(judge: Judge, version: str) -> str:
    return (
        f"{judge.model} is to judge in the version {judge.version!r}, as the verdicts so far or "
        f"--judge-version say, and now replies as {version!r}: their figures are not of one scale. Ask a "
        f"server that still has the former, or judge everything anew with --judge-version {version}"
    )
