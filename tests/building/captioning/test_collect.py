"""Asking about many images, interrupted and resumed, with pictures that cannot be read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from PIL import Image

from locvlm.building.captioning.captioner import Answer, Prompted
from locvlm.building.captioning.collect import UNANSWERED, UNREADABLE, Task, batches, collect, read_answers
from locvlm.building.journal import Journal
from locvlm.geometry import Box
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, ObjectAnnotation


class Stopped(Exception):
    pass


@dataclass
class Reader:
    """A captioner that says the size of the picture, and in what company it was asked about."""

    name: str = "reader"
    identity: dict[str, str] = field(default_factory=dict)
    prompts_per_batch: int = 4
    failing: tuple[str, ...] = ()  # prompts
    stop_after: int | None = None  # batches
    ahead: bool = False  # take all batches before the first answer
    num_batches: int = 0

    def describe(self, asked: Iterable[Sequence[Prompted]]) -> Iterator[list[list[Answer]]]:
        for batch in list(asked) if self.ahead else asked:
            if self.num_batches == self.stop_after:
                raise Stopped
            self.num_batches += 1
            company = len(batch)
            yield [
                [
                    Answer(failure="busy")
                    if prompt in self.failing
                    else Answer(text=f"{prompt} {item.picture.image.size} of {company}")
                    for prompt in item.prompts
                ]
                for item in batch
            ]


@pytest.fixture
def tasks(tmp_path):
    """Nine images of different widths with one to three prompts; 3 is broken and 4, 7, 8 are not there."""
    made = []
    for k in range(9):
        image = ImageAnnotation(
            image_id=str(k),
            image=f"{k}.png",
            width=20 + k,
            height=10,
            objects=(ObjectAnnotation(category="dog", box_px=Box(0, 0, 5, 5)),),
        )
        if k not in (4, 7, 8):
            Image.new("RGB", (20 + k, 10)).save(tmp_path / f"{k}.png")
        made.append(Task(image=image, prompts=tuple(f"{k}{letter}" for letter in "abc"[: 1 + k % 3])))
    (tmp_path / "3.png").write_bytes(b"no image")
    return made


def run(tmp_path, tasks, captioner, journal="j.jsonl"):
    ledger = Ledger("images")
    opened = Journal(tmp_path / journal, made_by={})
    try:
        answered = collect(tasks, captioner, opened, image_root=tmp_path, ledger=ledger)
        texts = {task.id: [a.text for a in read_answers(opened, task)] for task in answered}
    finally:
        opened.close()
    return texts, {reason: count for reason, count in ledger.dropped.items()}, ledger.num_kept


def test_batches_hold_whole_images_up_to_their_size(tasks):
    sizes = [[len(task.prompts) for task in batch] for batch in batches(tasks, 4)]
    assert sizes == [[1, 2], [3, 1], [2], [3, 1], [2], [3]]
    assert [task for batch in batches(tasks, 4) for task in batch] == tasks
    assert [len(batch) for batch in batches(tasks, 1)] == [1] * 9


@pytest.mark.parametrize("ahead", [False, True])
def test_every_readable_image_gets_its_answers_and_the_others_are_counted(tmp_path, tasks, ahead):
    texts, dropped, kept = run(tmp_path, tasks, Reader(ahead=ahead))
    assert dropped == {UNREADABLE: 4}
    assert kept == 5
    assert texts == {
        "0": ["0a (20, 10) of 2"],
        "1": ["1a (21, 10) of 2", "1b (21, 10) of 2"],
        "2": ["2a (22, 10) of 1", "2b (22, 10) of 1", "2c (22, 10) of 1"],
        "5": ["5a (25, 10) of 2", "5b (25, 10) of 2", "5c (25, 10) of 2"],
        "6": ["6a (26, 10) of 2"],
    }


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_an_interrupted_run_goes_on_and_asks_in_the_same_company(tmp_path, tasks, stop_after):
    expected = run(tmp_path, tasks, Reader(), journal="whole.jsonl")
    with pytest.raises(Stopped):
        run(tmp_path, tasks, Reader(stop_after=stop_after))
    rest = Reader()
    assert run(tmp_path, tasks, rest) == expected
    assert rest.num_batches == 3 - stop_after
    assert (tmp_path / "j.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_image_whose_batch_was_torn_is_asked_in_the_same_company_again(tmp_path, tasks):
    expected, *_ = run(tmp_path, tasks, Reader(), journal="whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "j.jsonl").write_bytes(b"".join(lines[:2]))  # image 0, and not 1 of the same batch
    assert run(tmp_path, tasks, Reader())[0] == expected


def test_failed_images_are_counted_and_asked_again_at_the_next_start(tmp_path, tasks):
    texts, dropped, kept = run(tmp_path, tasks, Reader(failing=("1b", "6a")))
    assert dropped == {UNREADABLE: 4, UNANSWERED: 2}
    assert (sorted(texts), kept) == (["0", "2", "5"], 3)
    again = Reader()
    texts, dropped, kept = run(tmp_path, tasks, again)
    assert (sorted(texts), kept) == (["0", "1", "2", "5", "6"], 5)
    assert again.num_batches == 2


def test_answers_to_another_number_of_prompts_are_refused(tmp_path, tasks):
    run(tmp_path, tasks, Reader())
    other = [Task(image=tasks[0].image, prompts=("one", "two"))]
    with pytest.raises(ValueError, match="1 answers about image 0, expected 2"):
        run(tmp_path, other, Reader())
