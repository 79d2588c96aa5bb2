"""Records of Localize-Instruct with their images: of a COCO folder, or of scenes drawn for it."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from locvlm.annotations.coco import read_instances
from locvlm.benchmarks.peers.data import write_scenes
from locvlm.coords.contract import CoordinateContract
from locvlm.data.tokenize import TokenizedSample, load_tokenizer, tokenize_samples
from locvlm.io import Ledger
from locvlm.objectives.render import render_record
from locvlm.objectives.select import SelectionConfig, build_records, make_negatives
from locvlm.records import Record, Sample
from locvlm.world.backbones import WEIGHTS

PATCH = 14
CONVERSATION = "vicuna_v1"


@dataclass(frozen=True)
class Source:
    """What training reads, and how it is written for a model of so many pixels."""

    records: Sequence[Record]
    image_root: Path
    tokenizer: PreTrainedTokenizerBase
    tokenizer_folder: Path

    def paths(self) -> list[Path]:
        """Of the images."""
        return [self.image_root / str(record.image) for record in self.records]

    def contract(self, canvas: int) -> CoordinateContract:
        """The shipped configurations': IVB, stretched."""
        return CoordinateContract(canvas=canvas, patch=PATCH)

    def samples(self, canvas: int, *, epoch: int = 0) -> list[Sample]:
        """All records as text."""
        contract = self.contract(canvas)
        return [render_record(record, contract, seed=0, epoch=epoch) for record in self.records]

    def tokenized(self, canvas: int, *, epoch: int = 0) -> list[TokenizedSample]:
        """All records as ids."""
        samples = self.samples(canvas, epoch=epoch)
        return tokenize_samples(samples, self.tokenizer, CONVERSATION, (canvas // PATCH) ** 2)


def open_source(args: argparse.Namespace, folder: Path, *, scenes: int) -> Source:
    """The records of `args.coco`, or of at least `scenes` scenes that are drawn into `folder`.

    Raises:
        ValueError: for a folder without annotations.
    """
    if args.coco is not None:
        root, records = args.coco, _read_coco(args.coco)
    else:
        root, records = write_scenes(folder, scenes, pairs=1)
    tokenizer_folder = args.tokenizer or WEIGHTS
    return Source(records, root, load_tokenizer(tokenizer_folder), tokenizer_folder)


def _read_coco(folder: Path) -> list[Record]:
    """What data_builders/localize_instruct.py makes of every split that is there."""
    files = sorted((folder / "annotations").glob("instances_*.json"))
    if not files:
        raise ValueError(f"{folder} has no annotations/instances_*.json; give a folder as COCO is published")
    records = []
    for path in files:
        split, config = path.stem.removeprefix("instances_"), SelectionConfig()
        images = list(read_instances(path, Ledger("annotations")))
        found = build_records(images, make_negatives(images, config), config, Ledger("images"))
        records += [replace(record, image=f"{split}/{record.image}") for record in found]
    return records
