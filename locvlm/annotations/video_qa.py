"""Questions about videos with short answers: ActivityNet-QA, MSRVTT-QA, MSVD-QA, TGIF-QA -> Records.

two files    questions [{"video_name": "1QIUV7WYKXg", "question_id": "v_1QIUV7WYKXg_3", "question": ...}, ...]
             answers   [{"question_id": "v_1QIUV7WYKXg_3", "answer": "no", "type": 3}, ...]
             ActivityNet-QA's own form, in which Video-ChatGPT and its followers hand round all four
one list     [{"video_id": 6513, "id": 158581, "question": ..., "answer": "couch", "category_id": 14}, ...]
             MSRVTT-QA and MSVD-QA, whose numbers stand for clips by a file: "-4wsuPCjDBc_5_15 vid1" a line
a sheet      gif_name, question, [a1 ... a5,] answer, [type,] vid_id, key; tab separated, though named .csv
             TGIF-QA: frameqa, action, transition and count

None says where the video is: `videos` is its file name, with {} for what the annotation calls it. One record
per video with all that is asked about it. Text is verbatim but for white space at the ends, so a question may
come without its question mark. The source of a query holds what scoring needs: question_id, question,
question_type and answer_type.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from locvlm.io import read_entries
from locvlm.records import Query, Record

NAME_SLOT = "{}"
Types = Literal["first_word", "activitynet"]
# ActivityNet-QA's `type` is of the question up to 2, from there on of the answer of a "free" question.
_ACTIVITYNET_TYPES = (
    *("motion", "spatial relation", "temporal relation"),
    *("yes/no", "color", "object", "location", "number", "other"),
)
_NUM_QUESTION_TYPES = 3
_FIRST_WORDS = ("what", "who", "how", "when", "where")  # the question types of MSRVTT-QA and MSVD-QA
_FRAMEQA_TYPES = ("object", "number", "color", "location")
_TGIF_KINDS = {"FRAMEQA": "frameqa", "ACTION": "action", "TRANS": "transition", "COUNT": "count"}
_OPTIONS = ("a1", "a2", "a3", "a4", "a5")


@dataclass(frozen=True, kw_only=True, slots=True)
class _VideoQuestion:
    where: str  # file and entry, for messages
    question_id: str
    name: str  # what the annotation calls the video
    question: str
    answer: str
    facts: dict[str, Any] = field(default_factory=dict)


# ---- two files


def read_video_qa(
    path: Path, *, answers: Path, videos: str = "{}.mp4", types: Types = "first_word"
) -> Iterator[Record]:
    """The questions of a questions file with the answers of the answers file, joined by question_id.

    Args:
        types: what question_type and answer_type are. "activitynet": by the number `type` of the answer, the
            four and the nine of ActivityNet-QA. "first_word": what, who, how, when, where, other.

    Raises:
        ValueError: naming the file and the entry, for a field that is missing or empty, a question_id that
            occurs twice or has no answer, or a type that ActivityNet-QA does not have.
    """
    given = _read_answers(answers)
    asked = []
    for where, entry in _entries(path):
        question_id, question = _text(entry, "question_id", where), _text(entry, "question", where)
        if question_id not in given:
            raise ValueError(
                f"{where}: {answers} does not answer {question_id!r}; give the two files of one split"
            )
        answer, of_answer = given[question_id]
        facts = _first_word(question) if types == "first_word" else _activitynet_types(answer, of_answer)
        asked.append(
            _VideoQuestion(
                where=where,
                question_id=question_id,
                name=_text(entry, "video_name", where),
                question=question,
                answer=_text(answer, "answer", of_answer),
                facts=facts,
            )
        )
    return _records(asked, path, videos)


def _read_answers(path: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """question_id -> (entry, where)."""
    given = {}
    for where, entry in _entries(path):
        question_id = _text(entry, "question_id", where)
        if question_id in given:
            raise ValueError(f"{where}: the question_id {question_id!r} is answered twice")
        given[question_id] = entry, where
    return given


def _activitynet_types(answer: dict[str, Any], where: str) -> dict[str, Any]:
    number = answer.get("type")
    if not isinstance(number, int) or not 0 <= number < len(_ACTIVITYNET_TYPES):
        raise ValueError(
            f"{where}: ActivityNet-QA has the types 0 to {len(_ACTIVITYNET_TYPES) - 1}, got {number!r}; "
            f"read other data sets with types: first_word"
        )
    name = _ACTIVITYNET_TYPES[number]
    return {"question_type": name if number < _NUM_QUESTION_TYPES else "free", "answer_type": name}


# ---- one list


def read_video_qa_list(
    path: Path, *, videos: str = "video{}.mp4", mapping: Path | None = None
) -> Iterator[Record]:
    """The questions of a list of MSRVTT-QA or MSVD-QA; question_type is their first word.

    Args:
        mapping: MSVD-QA's youtube_mapping.txt, "CLIP vidN" a line. A video is called CLIP with it, by its
            number without.

    Raises:
        ValueError: naming the file and the entry, for a field that is missing or empty, an id that occurs
            twice, or a video that the mapping lacks.
    """
    clips = None if mapping is None else _read_mapping(mapping)
    asked = []
    for where, entry in _entries(path):
        number = _text(entry, "video_id", where)
        if clips is not None and number not in clips:
            raise ValueError(
                f"{where}: {mapping} has no clip for vid{number}; give the file of this data set"
            )
        question = _text(entry, "question", where)
        asked.append(
            _VideoQuestion(
                where=where,
                question_id=_text(entry, "id", where),
                name=number if clips is None else clips[number],
                question=question,
                answer=_text(entry, "answer", where),
                facts=_first_word(question),
            )
        )
    return _records(asked, path, videos)


def _read_mapping(path: Path) -> dict[str, str]:
    """Number of a video -> name of its clip."""
    clips = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if len(words) != 2 or not words[1].startswith("vid"):
            raise ValueError(f'{path}:{number}: expected "CLIP vidN", got {line!r}')
        clips[words[1].removeprefix("vid")] = words[0]
    return clips


# ---- a sheet


def read_tgif_qa(path: Path, *, videos: str = "{}.gif") -> Iterator[Record]:
    """The questions of a TGIF-QA sheet.

    Action and transition are multiple choice there, with the place of the answer among five: here the answer
    is its text, and the five are in the source as `options`. question_type is frameqa, action, transition or
    count; answer_type, of frameqa alone, object, number, color or location.

    Raises:
        ValueError: naming the file and the line, for another number of columns, a column that is missing or
            empty, an answer that is none of the options, or a vid_id that occurs twice.
    """
    asked = []
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: expected {len(rows.fieldnames or ())} columns, tab separated")
            asked.append(_tgif_question(row, where))
    return _records(asked, path, videos)


def _tgif_question(row: dict[str, Any], where: str) -> _VideoQuestion:
    question_id, answer = _text(row, "vid_id", where), _text(row, "answer", where)
    kind = _TGIF_KINDS.get(question_id.rstrip("0123456789"))
    if kind is None:
        raise ValueError(
            f"{where}: expected a vid_id such as FRAMEQA1159 ({', '.join(_TGIF_KINDS)}), got {question_id!r}"
        )
    facts: dict[str, Any] = {"question_type": kind}
    if kind in ("action", "transition"):
        facts["options"] = [_text(row, name, where) for name in _OPTIONS]
        answer = _pick(facts["options"], answer, "answer", where)
    if kind == "frameqa":
        facts["answer_type"] = _pick(_FRAMEQA_TYPES, _text(row, "type", where), "type", where)
    return _VideoQuestion(
        where=where,
        question_id=question_id,
        name=_text(row, "gif_name", where),
        question=_text(row, "question", where),
        answer=answer,
        facts=facts,
    )


def _pick(choices: Sequence[str], place: str, column: str, where: str) -> str:
    if not place.isdecimal() or int(place) >= len(choices):
        raise ValueError(f"{where}: {column} must be 0 to {len(choices) - 1}, got {place!r}")
    return choices[int(place)]


# ---- what they share


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, entry) of a JSON file that is one array of objects."""
    for where, entry in read_entries(path, expected="one array of objects"):
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: expected an object, got {entry!r}")
        yield where, entry


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    """A text, or a whole number as text, without white space at the ends."""
    value = entry.get(name)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise ValueError(f"{where}: expected a text or a number under {name!r}, got {value!r}")
    return text


def _first_word(question: str) -> dict[str, Any]:
    word = question.split()[0].lower()
    return {"question_type": word if word in _FIRST_WORDS else "other"}


def _records(asked: Sequence[_VideoQuestion], path: Path, videos: str) -> Iterator[Record]:
    """One record per video, in order of appearance."""
    if videos.count(NAME_SLOT) != 1:
        raise ValueError(f"videos is a file name with {NAME_SLOT} for the video's name, got {videos!r}")
    if not asked:
        raise ValueError(f"{path}: expected questions about videos, there are none")
    queries: dict[str, list[Query]] = {}
    seen: set[str] = set()
    for item in asked:
        if item.question_id in seen:
            raise ValueError(f"{item.where}: the id {item.question_id!r} is there twice")
        seen.add(item.question_id)
        source = {"question_id": item.question_id, "question": item.question, **item.facts}
        query = Query(objective="vqa", question=item.question, answer=item.answer, source=source)
        queries.setdefault(item.name, []).append(query)
    return (
        Record(
            id=name,
            image=None,
            video=videos.replace(NAME_SLOT, name),
            queries=tuple(of_video),
            source={"file": path.name},
        )
        for name, of_video in queries.items()
    )
