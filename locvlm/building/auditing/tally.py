"""Everything that is counted while the entries of a file pass by, once."""

import random
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locvlm.building.auditing.entries import Entry, is_video_key
from locvlm.building.auditing.prompt_classifier import Prompt, PromptSample
from locvlm.building.manifest import RecordCounts
from locvlm.coords.contract import REPRESENTATIONS
from locvlm.geometry import Box
from locvlm.objectives.locpred import ANSWER, ask_location
from locvlm.objectives.negpred import ABSENT_ANSWER
from locvlm.records import Query, Record, Sample, Turn

_LOCATED = ANSWER.partition("{")[0]
_TOLERANCE_PX = 0.01  # COCO's x + width may be over the border by what a float loses
_MAX_EXAMPLES = 5


@dataclass(kw_only=True)
class Tally:
    """What was counted.

    counts          records' questions by objective, class and length; conversations' by their wording
    questions       of an entry -> entries
    objects         class -> objects with a box, each once per record
    box_faults      reason -> boxes that no record may have
    num_beyond      boxes that reach over the border of their image; beyond: examples
    corners         x1, y1, x2, y2 and the image's width and height of every object, source pixels, in a row
    image_times     key -> entries about the image or video
    paths           path of every image -> its key; COCO's are equal under several
    repeated        examples of questions asked again about the same image, with the same answer
    prompts         what asks where something is, as an epoch reads it first
    samples         entries drawn at random, for the page
    """

    num_samples: int = 24
    counts: RecordCounts = field(default_factory=RecordCounts)
    questions: Counter[int] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    box_faults: Counter[str] = field(default_factory=Counter)
    num_boxes: int = 0  # of questions
    num_beyond: int = 0
    beyond: list[str] = field(default_factory=list)
    corners: "array[float]" = field(default_factory=lambda: array("d"))
    image_times: Counter[str] = field(default_factory=Counter)
    paths: dict[str, str] = field(default_factory=dict)
    num_repeated_questions: int = 0
    repeated: list[str] = field(default_factory=list)
    samples: list[tuple[int, Entry]] = field(default_factory=list)
    prompts: PromptSample = field(default_factory=PromptSample)
    _seen: set[int] = field(default_factory=set)  # hashes of questions
    _rng: random.Random = field(default_factory=lambda: random.Random("0/audit"))

    def add(self, entry: Entry) -> None:
        """Count one more."""
        item, key = entry.item, entry.key
        if key:
            self.image_times[key] += 1
        if item.image is not None:
            self.paths[item.image] = key
        self.box_faults.update(entry.box_faults)
        self.num_boxes += len(entry.box_faults)
        if isinstance(item, Record):
            self._add_record(item, key)
        else:
            self._add_conversation(item, key)
        self._draw(entry)

    @property
    def num_entries(self) -> int:
        """Entries read."""
        return self.counts.num_records

    @property
    def num_videos(self) -> int:
        """Different videos."""
        return sum(map(is_video_key, self.image_times))

    @property
    def num_outside(self) -> int:
        """Boxes that reach over the border of their image, or that no record may have."""
        return self.num_beyond + self.box_faults.total()

    @property
    def num_questions(self) -> int:
        """Questions of all entries."""
        return self.counts.queries.total()

    def objects_px(self) -> NDArray[np.float64]:
        """(N, 6): x1, y1, x2, y2 of every object and width, height of its image, source pixels."""
        return np.array(self.corners).reshape(-1, 6)

    def _add_record(self, record: Record, key: str) -> None:
        self.counts.add(record)
        self.questions[len(record.queries)] += 1
        objects: dict[Box, str] = {}
        for k, query in enumerate(record.queries):
            self._note_repeated(record.id, (key, query.objective, *_content(query)))
            if query.objective in ("locpred", "negpred") and self.prompts.wants(key or record.id):
                self.prompts.add(_prompt_of(query, key or record.id, seed=f"0/0/{record.id}/{k}"))
            if query.box_px is not None:
                objects.setdefault(query.box_px, query.category or query.phrase)
                self._add_box(query.box_px, record)
        self.objects.update(objects.values())
        for box in objects:
            self.corners.extend((*box, record.width, record.height))

    def _add_box(self, box: Box, record: Record) -> None:
        self.num_boxes += 1
        over = max(-box.x1, -box.y1, box.x2 - record.width, box.y2 - record.height)
        if over > _TOLERANCE_PX:
            self.num_beyond += 1
            if len(self.beyond) < _MAX_EXAMPLES:
                self.beyond.append(f"{record.id}: {list(box)} of {record.width} x {record.height}")

    def _add_conversation(self, sample: Sample, key: str) -> None:
        self.counts.num_records += 1
        turns = [turn for branch in sample.branches for turn in branch]
        self.questions[len(turns)] += 1
        for turn in turns:
            kind = _kind_of(turn)
            self.counts.queries[kind] += 1
            self._note_repeated(sample.id, (key, turn.question, turn.answer))
            if kind in ("locpred", "negpred"):
                num_words = len(turn.question.split())
                prompt = Prompt(key or sample.id, turn.question, kind == "negpred", num_words=num_words)
                self.prompts.add(prompt)
                self.counts.lengths[kind][num_words] += 1

    def _note_repeated(self, entry_id: str, content: tuple[Any, ...]) -> None:
        if not content[0]:
            return  # text alone: "Thank you" may be said in any conversation
        before = len(self._seen)
        self._seen.add(hash(content))
        if len(self._seen) == before:
            self.num_repeated_questions += 1
            if len(self.repeated) < _MAX_EXAMPLES:
                self.repeated.append(f"{entry_id}: {' '.join(map(str, content[1:]))[:120]}")

    def _draw(self, entry: Entry) -> None:
        number = self.counts.num_records
        if len(self.samples) < self.num_samples:
            self.samples.append((number, entry))
        elif (place := self._rng.randrange(number)) < self.num_samples:
            self.samples[place] = (number, entry)


def _content(query: Query) -> tuple[Any, ...]:
    """What makes two questions about one image the same."""
    if query.objective in ("caption", "vqa"):
        return (query.question, query.answer)
    return (query.phrase, *(query.box_px or ()))


def _prompt_of(query: Query, image: str, *, seed: str) -> Prompt:
    rng, words = random.Random(seed), REPRESENTATIONS["bbox"]
    return Prompt(
        image=image,
        text=ask_location(query.phrase, rng=rng, representation=words),
        is_absent=query.objective == "negpred",
        category=query.category,
        num_words=len(query.phrase.split()),
    )


def _kind_of(turn: Turn) -> str:
    """The objective of a turn by the wording of its answer; "conversation" for all others."""
    if turn.answer.strip() == ABSENT_ANSWER:
        return "negpred"
    return "locpred" if turn.answer.startswith(_LOCATED) else "conversation"
