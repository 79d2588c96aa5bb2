"""What crosses rooms: annotations from files, records on disk, samples as text, predictions.

    annotation files --annotations--> ImageAnnotation --objectives--> Record (JSONL on disk)
    Record --objectives--> Sample (text) --data--> packed batch --model--> loss, answers
    answers --evals--> Prediction (JSONL on disk) --evals--> scores

A record says *what is asked about what*; wording is drawn and coordinates are written only when a sample is
loaded, so that one file serves every codec, frame and location type. Boxes are source pixels everywhere here.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from locvlm.geometry import Box

Objective = Literal["locpred", "negpred", "revloc", "caption", "vqa"]
LocationKind = Literal["bbox", "point"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectAnnotation:
    """One annotated object of an image."""

    category: str
    box_px: Box  # source pixels
    is_crowd: bool = False
    annotation_id: str = ""
    phrases: tuple[str, ...] = ()  # what it is called in this image: referring expressions, descriptions


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAnnotation:
    """One image with everything that annotation files say about it."""

    image_id: str
    image: str  # path relative to the image root
    width: int  # source pixels
    height: int
    objects: tuple[ObjectAnnotation, ...] = ()
    captions: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()  # classes of objects that are there, but whose boxes cannot be used


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One thing asked about an image. Which fields are set depends on `objective`:

    locpred  phrase, box_px: where is `phrase`? It is at `box_px`.
    negpred  phrase: where is `phrase`? It is not in the image.
    revloc   phrase, box_px: what is at `box_px`? There is a `phrase`.
    caption  answer: the caption, verbatim (stage 1).
    vqa      question, answer: verbatim text.
    """

    objective: Objective
    phrase: str = ""  # class label or description
    category: str = ""  # class label, also where `phrase` is a description
    box_px: Box | None = None  # source pixels
    question: str = ""
    answer: str = ""
    # what scoring needs beside the answer, under the names of the data set: question_id, answers, answer_type
    source: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One line of a built data set: an image or a video, and all that is asked about it."""

    id: str
    image: str | None  # path relative to the image root; None for videos and for text-only records
    width: int = 0  # source pixels, as the annotation file says; of the upright frame for videos
    height: int = 0
    queries: tuple[Query, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)  # provenance: data set, split, image id
    video: str | None = None  # path relative to the video root; its boxes hold for the whole video


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One exchange as final text, without image token or role words."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An image or a video, or neither, with independent dialogues about it, as final text.

    Each branch is a dialogue of one or more turns that sees the image and itself, never its siblings. A
    record gives one branch per query; a LLaVA conversation, whose turns build on each other, a single branch.
    """

    id: str
    image: str | None  # absolute or root-relative path; None for videos and for text only
    width: int = 0  # source pixels, of the upright frame for videos
    height: int = 0
    flip: bool = False  # mirror the image left to right (the text is already written for it)
    branches: tuple[tuple[Turn, ...], ...]
    video: str | None = None  # as `image`, and instead of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One answered evaluation question, as saved; scoring reads nothing else."""

    id: str  # unique within the task
    record_id: str
    image: str | None
    question: str  # as asked, coordinates written
    answer: str  # as generated, special tokens removed
    gold: dict[str, Any]  # what scoring compares with: box_px, category, answer, width, height ...
    failed: str = ""  # why there is no answer ("unreadable image: ..."); empty when there is one
    # where the likeliest option is the answer: each option's log-likelihood in nats per token
    option_nats: dict[str, float] = field(default_factory=dict)
