"""Steps in which images, videos and text are mixed."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.data.loader import StepLoader
from locvlm.data.mixture import Source
from locvlm.data.packing import PackingConfig
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.objectives.render import render_record
from locvlm.records import Query, Record
from locvlm.spec import VisionSpec
from locvlm.training.arguments import DataConfig
from locvlm.training.stages.data import PixelOpener, Renderer

VISION = VisionSpec(canvas=28, patch=14, num_frames=3)
CONTRACT = CoordinateContract(canvas=28, patch=14)
WHERE = Query(objective="locpred", phrase="dog", category="dog", box_px=Box(2, 3, 20, 12))
NOT = Query(objective="negpred", phrase="cat", category="cat")


@pytest.fixture(scope="module")
def sources(tmp_path_factory, write_clip):
    """Four images, three videos with records, two questions about these, two texts."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "images").mkdir()
    (root / "videos").mkdir()
    for k in range(4):
        Image.new("RGB", (48, 32), (40 * k,) * 3).save(root / "images" / f"{k}.png")
    for k in range(3):
        pictures = [np.full((32, 48, 3), 30 * k + 10 * t, dtype=np.uint8) for t in range(2 + k)]
        write_clip(root / "videos" / f"v_{k}.mp4", pictures)
    size = {"width": 48, "height": 32}
    images = [
        Record(id=f"i{k}", image=f"{k}.png", **size, queries=(WHERE, NOT)[: k % 2 + 1]) for k in range(4)
    ]
    videos = [
        Record(id=f"v{k}", image=None, video=f"v_{k}.mp4", **size, queries=(WHERE, NOT)) for k in range(3)
    ]
    texts = [
        Record(id=f"t{k}", image=None, queries=(Query(objective="vqa", question="Where?", answer="There."),))
        for k in range(2)
    ]
    write_records(root / "images.jsonl", [*images, *texts])
    write_records(root / "videos.jsonl", videos)
    rows = [{"q": "What is it?", "a": "A dog.", "video_id": f"v_{k}"} for k in range(2)]
    (root / "instruct.json").write_text(json.dumps(rows))
    folder = str(root / "videos")
    return [
        Source(name="images", path=str(root / "images.jsonl"), image_root=str(root / "images")),
        Source(name="videos", path=str(root / "videos.jsonl"), video_root=folder),
        Source(name="instruct", path=str(root / "instruct.json"), kind="llava", video_root=folder),
    ]


@pytest.fixture
def make_builder(sources, small_tokenizer):
    def make(**shape):
        data = DataConfig(sources=tuple(sources), conversations_per_step=11, conversation="vicuna_v1")
        datasets, mixture = open_sources(sources, seed=0, conversations_per_step=11, takes_videos=True)
        return StepBuilder(
            mixture=mixture,
            datasets=datasets,
            render=Renderer(CONTRACT, data),
            open_pixels=PixelOpener(CONTRACT, VISION),
            tokenizer=small_tokenizer,
            conversation="vicuna_v1",
            vision=VISION,
            packing=PackingConfig(max_row_tokens=1024),
            shape=StepShape(**shape),
        )

    return make


def shown(batches):
    """(frames, first levels of each) of every visual, sorted."""
    found = []
    for batch in batches:
        pixels = iter(batch["pixel_values"])
        for number in batch.get("frames_per_visual", torch.zeros(len(batch["pixel_values"]))).tolist():
            pictures = [next(pixels) for _ in range(max(int(number), 1))]
            found.append((int(number), tuple(float(p[0, 0, 0]) for p in pictures)))
        assert next(pixels, None) is None
    return sorted(found)


def test_a_step_holds_all_kinds_and_each_tree_has_the_tokens_of_its_kind(make_builder, small_tokenizer):
    (batch,) = make_builder(rows_per_pass=2).build(0, rank=0).batches
    counts = sorted(batch["frames_per_visual"].tolist())
    assert counts == [0] * 4 + [3] * 5
    assert len(batch["pixel_values"]) == 4 + 3 * 5
    image_id = small_tokenizer.get_vocab()["<image>"]
    tokens = []
    for row in range(2):
        for sample in range(int(batch["sample_ids"][row].max()) + 1):
            own = (batch["sample_ids"][row] == sample) & (batch["input_ids"][row] == image_id)
            tokens.append(int(own.sum()))
    in_order = [n for n in tokens if n]
    assert sorted(tokens) == [0] * 2 + [4] * 4 + [7] * 5
    assert in_order == [7 if count else 4 for count in batch["frames_per_visual"].tolist()]


def test_ranks_and_workers_change_nothing(make_builder):
    whole = make_builder(rows_per_pass=4).build(0, rank=0)
    halves = [make_builder(world_size=2, rows_per_pass=2).build(0, rank=rank) for rank in range(2)]
    expected = shown(whole.batches)
    assert len(expected) == 9
    assert shown([batch for half in halves for batch in half.batches]) == expected
    loaded = StepLoader(make_builder(rows_per_pass=4), epochs=1, num_workers=1)
    assert shown(list(loaded)) == expected


def test_a_short_video_shows_its_frames_again_and_boxes_are_on_the_canvas(make_builder):
    builder = make_builder()
    samples = {sample.id: sample for sample in builder.samples(0)}
    frames = builder.open_pixels(samples["v0"])
    first, second, third = (float(level) for level in frames.levels[:, 0, 0, 0])
    assert first < second == third  # two frames, the second shown again
    record = Record(id="v0", image="x", width=48, height=32, queries=(WHERE, NOT))
    assert samples["v0"].branches == render_record(record, CONTRACT, seed=0, epoch=0).branches


def test_random_bytes_are_an_unreadable_video_and_weigh_nothing(make_builder, sources, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(random.Random(0).randbytes(5000))
    builder = make_builder(rows_per_pass=4)
    opener = builder.open_pixels

    class Swapped:
        def __call__(self, sample):
            return opener(sample) if sample.id != "v1" else opener._open_video(str(bad), (48, 32))

    object.__setattr__(builder, "open_pixels", Swapped())
    item = builder.build(0, rank=0)
    assert [(d.sample_id, d.source, d.reason) for d in item.dropped] == [("v1", "videos", "unreadable video")]
    (batch,), (healthy,) = item.batches, make_builder(rows_per_pass=4).build(0, rank=0).batches
    assert batch["num_targets"] == healthy["num_targets"]
    assert batch["target_weights"].sum() < healthy["target_weights"].sum()
    assert item.num_kept == 10
