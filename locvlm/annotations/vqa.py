"""Questions with short answers: GQA, VQAv2, and LLaVA's lists of them -> VqaQuestion -> Records.

GQA     {"202218649": {"question": ..., "imageId": "n578564", "answer": "picture", "types": {...}, ...}, ...}
VQAv2   {"questions": [{"question_id": 458752000, "image_id": 458752, "question": ...}, ...]}
        {"annotations": [{"question_id": 458752000, "answers": [{"answer": "net", ...} x 10], ...}, ...]}
LLaVA   one line each: {"question_id": "202218649", "image": "n578564.jpg", "text": "What is ...?"}

VQAv2's training set has 4.4 million answers in 330 MB of JSON: msgspec decodes files, from a memory map, into
the fields that are needed.
"""

import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from locvlm.annotations.by_image import records_by_image
from locvlm.io import Ledger, read_json, read_jsonl
from locvlm.records import Query, Record

ImageNames = Literal["2014", "2014-folders", "2017"]
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."  # LLaVA-1.5 section 3.2
Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaQuestion:
    """One question about an image, with what its data set says about it."""

    question_id: str
    image: str  # file name
    question: str  # verbatim, without a request for a short answer
    answer: str  # the one to train on
    facts: dict[str, Any] = field(default_factory=dict)  # for scoring, under the names of the data set


# ---- GQA


class _GqaQuestion(msgspec.Struct, gc=False):
    question: str
    imageId: str
    answer: str
    isBalanced: bool = True
    types: dict[str, str | None] = {}  # msgspec copies it for every question


def read_gqa(path: str | Path, ledger: Ledger) -> Iterator[VqaQuestion]:
    """The questions of a GQA file (train, val, testdev; balanced or all), in their order.

    `facts` are types (structural, semantic, detailed) and isBalanced. The ledger counts questions.

    Raises:
        ValueError: naming the file and the entry that has another form.
    """
    for question_id, entry in _decode(path, dict[str, _GqaQuestion], "GQA questions by id").items():
        question = VqaQuestion(
            question_id=question_id,
            image=f"{entry.imageId}.jpg",
            question=entry.question.strip(),
            answer=entry.answer.strip(),
            facts={"types": entry.types, "isBalanced": entry.isBalanced},
        )
        if _is_usable(question, ledger):
            yield question


# ---- VQAv2


class _Question(msgspec.Struct, gc=False):
    question_id: int
    image_id: int
    question: str


class _Questions(msgspec.Struct):
    questions: list[_Question]
    data_subtype: str


class _Answer(msgspec.Struct, gc=False):
    answer: str


class _Annotation(msgspec.Struct, gc=False):
    question_id: int
    answers: list[_Answer]
    image_id: int | None = None  # excerpts that go round lack it and the types
    question_type: str = ""
    answer_type: str = ""


class _Annotations(msgspec.Struct):
    annotations: list[_Annotation]
    data_subtype: str


def read_vqav2(
    questions: str | Path,
    annotations: str | Path,
    ledger: Ledger,
    *,
    names: ImageNames = "2014",
) -> Iterator[VqaQuestion]:
    """The questions of a VQAv2 file in their order, each with its ten answers from the annotations file.

    The answer to train on is the most frequent of the ten, among as frequent ones the first given. `facts`
    are answers (all ten, verbatim), question_type and answer_type. Annotations of further questions are
    ignored.

    Args:
        names: of the images. "2014": COCO_train2014_000000458752.jpg. "2014-folders":
            train2014/COCO_train2014_000000458752.jpg, for an image root that holds several splits. "2017":
            000000458752.jpg, as in train2017, which holds all of train2014.

    Raises:
        ValueError: naming the file, for entries of another form, files of different splits, a question
            without annotation or about another image than it, or an id that occurs twice.
    """
    asked = _decode(questions, _Questions, 'a VQAv2 questions file, with "questions"')
    answered = _decode(annotations, _Annotations, 'a VQAv2 annotations file, with "annotations"')
    if asked.data_subtype != answered.data_subtype:
        raise ValueError(
            f"{questions} is about {asked.data_subtype}, {annotations} about {answered.data_subtype}; "
            f"give the two files of one split"
        )
    by_id = _by_id(answered.annotations, annotations)
    _by_id(asked.questions, questions)
    for entry in asked.questions:
        annotation = by_id.get(entry.question_id)
        if annotation is None or annotation.image_id not in (entry.image_id, None):
            about = "nothing" if annotation is None else f"image {annotation.image_id}"
            raise ValueError(
                f"{questions} asks {entry.question_id} about image {entry.image_id}, {annotations} about "
                f"{about}; give the two files of one split"
            )
        answers = [item.answer for item in annotation.answers]
        question = VqaQuestion(
            question_id=str(entry.question_id),
            image=_image_name(entry.image_id, asked.data_subtype, names),
            question=entry.question.strip(),
            answer=most_frequent(answers).strip(),
            facts={
                "answers": answers,
                "question_type": annotation.question_type,
                "answer_type": annotation.answer_type,
            },
        )
        if _is_usable(question, ledger):
            yield question


def most_frequent(answers: Iterable[str]) -> str:
    """The answer given most often, among as frequent ones the first; "" for no answers."""
    return max(Counter(answers).items(), key=lambda item: item[1], default=("", 0))[0]


def _image_name(image_id: int, data_subtype: str, names: ImageNames) -> str:
    if names == "2017":
        return f"{image_id:012d}.jpg"
    split = "test2015" if data_subtype.startswith("test") else data_subtype  # test-dev2015 is part of it
    name = f"COCO_{split}_{image_id:012d}.jpg"
    return f"{split}/{name}" if names == "2014-folders" else name


Entry = TypeVar("Entry", _Question, _Annotation)


def _by_id(entries: list[Entry], path: str | Path) -> dict[int, Entry]:
    by_id = {entry.question_id: entry for entry in entries}
    if len(by_id) != len(entries):
        ids = Counter(entry.question_id for entry in entries)
        raise ValueError(f"{path}: the question_id {ids.most_common(1)[0][0]} is there twice")
    return by_id


# ---- LLaVA's lists


def read_llava_questions(path: str | Path, answered: Iterable[VqaQuestion]) -> Iterator[VqaQuestion]:
    """The questions that a list of LLaVA's evaluation names, with the answers of `answered`, which it lacks.

    Text and image are the list's; the request for a short answer is taken off, since tasks add it themselves.

    Raises:
        ValueError: naming the line, for a field that is missing, an id twice, or one not in `answered`.
    """
    by_id = {question.question_id: question for question in answered}
    seen: set[str] = set()
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        question_id, image, text = (row.get(name) for name in ("question_id", "image", "text"))
        if not isinstance(question_id, str | int) or not isinstance(image, str) or not isinstance(text, str):
            raise ValueError(f"{where}: expected question_id, image and text, got {row}")
        found = by_id.get(str(question_id))
        if found is None:
            raise ValueError(
                f"{where}: question {question_id} has no answer; give the questions file of its split"
            )
        if found.question_id in seen:
            raise ValueError(f"{where}: the question_id {question_id} is there twice")
        seen.add(found.question_id)
        yield replace(found, image=image, question=text.removesuffix(SHORT_ANSWER))


# ---- records


def records_of_questions(questions: Iterable[VqaQuestion], **source: Any) -> Iterator[Record]:
    """One record per image with all its questions, so that they share its tokens, in order of appearance.

    `source` of a query is its question_id with its `facts`, which is all that scoring needs; a record's is
    what is given here. Images have no size: the files do not tell it.

    Raises:
        ValueError: for two images with the same name in different folders, as it is what tells records apart.
    """
    asked = (
        (
            item.image,
            Query(
                objective="vqa",
                question=item.question,
                answer=item.answer,
                source={"question_id": item.question_id, **item.facts},
            ),
        )
        for item in questions
    )
    yield from records_by_image(asked, source=source)


def _is_usable(question: VqaQuestion, ledger: Ledger) -> bool:
    if question.question and question.answer:
        ledger.keep()
        return True
    ledger.drop(question.question_id, "no answer" if question.question else "no question")
    return False


def _decode(path: str | Path, kind: type[Content], expected: str) -> Content:
    """The content of a JSON file as `kind`; fields that it does not name are skipped.

    Raises:
        ValueError: naming the file and the place, if it is not JSON or not of this form.
    """
    if not Path(path).stat().st_size:
        raise ValueError(f"{path}: expected {expected}, the file is empty")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError as error:
            raise ValueError(f"{path}: expected {expected}: {error}") from error
        except msgspec.DecodeError as error:
            read_json(path)  # its message names the line
            raise ValueError(f"{path}: not valid JSON: {error}") from error
