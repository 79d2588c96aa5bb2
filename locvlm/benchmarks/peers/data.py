"""Scenes of the embedded world and what is asked about them: as records for us, pair by pair for others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from transformers import LlavaConfig

from locvlm.annotations.coco import read_instances
from locvlm.benchmarks.peers.workload import CONVERSATION, ROW_TOKENS, Workload
from locvlm.coords.contract import CoordinateContract
from locvlm.data.packing import as_trees, pack_rows
from locvlm.data.prompt import BOS_TOKEN, EOS_TOKEN, render_question
from locvlm.data.steps import open_sources
from locvlm.data.tokenize import TokenizedSample, load_tokenizer, tokenize_samples
from locvlm.io import Ledger, read_jsonl, write_jsonl, write_records
from locvlm.objectives.select import SelectionConfig, build_records, make_negatives
from locvlm.records import Record, Sample
from locvlm.training.stages.data import Renderer
from locvlm.world.write import Split, write_split

SPLIT = "train"


@dataclass(frozen=True)
class Pair:
    """A question about an image and its answer, as text.

    `prompt` and `completion` are what TRL's collator tokenizes, one apart from the other. Together that gives
    the ids of the whole text, because LLaMA's tokenizer puts a space of its own before the completion, and
    BOS is written with the space that would follow it.
    """

    image: str  # path
    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """Up to ASSISTANT:"""
        return f"{BOS_TOKEN} {render_question(self.question, CONVERSATION, has_image=True)}"

    @property
    def completion(self) -> str:
        """What is learned."""
        return f"{self.answer}{EOS_TOKEN}"


def read_pairs(work: Workload) -> list[Pair]:
    """Of the whole training, in the order in which our steps draw them."""
    return [Pair(**row) for _, row in read_jsonl(work.pairs)]


def write_scenes(folder: Path, number: int, *, pairs: int, seed: int = 0) -> tuple[Path, list[Record]]:
    """(folder of the images, `number` records that ask at least `pairs` things), made anew under `folder`."""
    for scenes in (number * power + 4 for power in count(1)):  # in few scenes there is too little to ask
        write_split(Split(name=SPLIT, count=scenes, seed=seed), folder, workers=1)
        instances = folder / "annotations" / f"instances_{SPLIT}.json"
        images = list(read_instances(instances, Ledger("annotations")))
        config = SelectionConfig(seed=seed)
        found = build_records(images, make_negatives(images, config), config, Ledger("images"))
        records = [record for record in found if len(record.queries) >= pairs]
        if len(records) >= number:
            break
    return folder / "images" / SPLIT, records[:number]


def prepare(work: Workload, records: Sequence[Record]) -> Workload:
    """Write the workload's files; returns it with as few `passes` as hold each of its steps.

    Every image of the run is another one; of its queries, which are shuffled, the first are taken.

    Raises:
        ValueError: if there are too few records, or one of them is longer than a row.
    """
    needed = work.images_per_step * work.num_steps
    if len(records) < needed:
        raise ValueError(f"{work.num_steps} steps take {needed} records, got {len(records)}")
    work.folder.mkdir(parents=True)
    taken = [replace(record, queries=record.queries[: work.pairs_per_image]) for record in records[:needed]]
    write_records(work.records, taken)
    config: dict[str, dict[str, str]] = LlavaConfig.from_pretrained(work.start).locvlm
    contract = CoordinateContract.from_dict(config["contract"])
    steps = list(_steps(work, contract))
    write_jsonl(work.pairs, (pair for samples in steps for sample in samples for pair in _pairs_of(sample)))
    tokenizer = load_tokenizer(work.start)
    num_image_tokens = (contract.canvas // contract.patch) ** 2
    tokenized = (tokenize_samples(samples, tokenizer, CONVERSATION, num_image_tokens) for samples in steps)
    return replace(work, passes=max(map(_fewest_rows, tokenized)))


def _steps(work: Workload, contract: CoordinateContract) -> Iterator[list[Sample]]:
    """What each of our steps will draw, as text."""
    data = work.stage_config("ours").data
    datasets, mixture = open_sources(
        data.sources, seed=data.seed, conversations_per_step=data.conversations_per_step
    )
    render = Renderer(contract, data)
    for step in range(work.num_steps):
        samples = []
        for draw in mixture.step(step):
            item = datasets[draw.source][draw.item]
            assert isinstance(item, Record)
            samples.append(render(item, draw.epoch))
        yield samples


def _pairs_of(sample: Sample) -> Iterator[dict[str, str]]:
    for (turn,) in sample.branches:
        yield {"image": str(sample.image), "question": turn.question, "answer": turn.answer}


def _fewest_rows(samples: Sequence[TokenizedSample]) -> int:
    """That hold the samples, a shared prefix once."""
    trees = [
        tree for sample in samples for tree in as_trees(sample, "shared_prefix", max_row_tokens=ROW_TOKENS)
    ]
    for rows in range(1, len(trees)):
        try:
            pack_rows(trees, rows, ROW_TOKENS)
            return rows
        except ValueError:
            continue
    return len(trees)
