import random
import signal
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.data.image import SizeMismatch, UnreadableImage, read_pixels
from locvlm.data.loader import StepLoader
from locvlm.data.mixture import Source
from locvlm.data.packing import PackingConfig
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.objectives.render import render_record
from locvlm.records import Query, Record, Sample, Turn
from locvlm.spec import VisionSpec

VISION = VisionSpec(canvas=28, patch=14)
PACKING = PackingConfig(max_row_tokens=1024)
PER_STEP = 6


def render(record, epoch):
    """Wording that differs between epochs, as the objectives' templates do."""
    rng = random.Random(f"{epoch}/{record.id}")
    branches = tuple(
        (Turn(question=rng.choice(["Where is it?", "What is the location?"]), answer=query.answer),)
        for query in record.queries
    )
    return Sample(id=record.id, image=record.image, branches=branches)


def open_pixels(sample):
    """An image of one value, the number in its name."""
    return np.full((3, 28, 28), int(sample.id[1:]), dtype=np.float32)


class BrokenFor:
    """Fails for the images of some samples."""

    def __init__(self, *sample_ids):
        self.sample_ids = sample_ids

    def __call__(self, sample):
        if sample.id in self.sample_ids:
            raise UnreadableImage(f"{sample.image} is cut off")
        return open_pixels(sample)


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("loader") / "records.jsonl"
    records = [
        Record(
            id=f"r{i}",
            image=None if i % 7 == 3 else f"{i}.jpg",
            queries=tuple(
                Query(objective="caption", answer=" ".join(["dog"] * rng.randint(1, 9)))
                for _ in range(rng.randint(1, 4))
            ),
        )
        for i in range(20)
    ]
    write_records(path, records)
    return path


@pytest.fixture
def make_builder(data_file, small_tokenizer):
    def make(*, seed=0, packing=PACKING, pixels=open_pixels, **shape):
        datasets, mixture = open_sources(
            [Source(name="all", path=str(data_file))], seed=seed, conversations_per_step=PER_STEP
        )
        return StepBuilder(
            mixture=mixture,
            datasets=datasets,
            render=render,
            open_pixels=pixels,
            tokenizer=small_tokenizer,
            conversation="vicuna_v1",
            vision=VISION,
            packing=packing,
            shape=StepShape(**shape),
        )

    return make


def as_values(batch):
    """A batch as something that == compares."""
    return {name: v.tolist() if isinstance(v, torch.Tensor) else v for name, v in batch.items()}


def sequences(batches, image_token):
    """(ids, targets, first pixel) of every tree, sorted: what a step teaches, whatever its layout."""
    found = []
    for batch in batches:
        length = batch["input_ids"].shape[1]
        pixels = iter(batch.get("pixel_values", ()))
        for row, (ids, samples) in enumerate(zip(batch["input_ids"], batch["sample_ids"], strict=True)):
            for number in range(int(samples.max()) + 1):
                where = (samples == number).nonzero().flatten() + row * length
                own = torch.isin(batch["target_index"], where)
                if batch["target_weights"][own].sum() == 0:
                    continue
                shift = int(where[0])
                shows = image_token in ids[samples == number].tolist()
                found.append(
                    (
                        ids[samples == number].tolist(),
                        (batch["target_index"][own] - shift).tolist(),
                        batch["target_ids"][own].tolist(),
                        float(next(pixels)[0, 0, 0]) if shows else None,
                    )
                )
    return sorted(found, key=str)


def test_a_run_gives_accumulation_batches_per_step(make_builder):
    loader = StepLoader(make_builder(accumulation=3), num_steps=4)
    assert len(loader) == len(list(loader)) == 12


def test_one_epoch_shows_every_conversation_once_and_its_last_step_is_shorter(make_builder):
    loader = StepLoader(make_builder(), epochs=1)
    assert loader.num_steps == 4
    ids = [[sample.id for sample in loader.builder.samples(step)] for step in range(4)]
    assert [len(step) for step in ids] == [6, 6, 6, 2]
    assert sorted(name for step in ids for name in step) == sorted(f"r{i}" for i in range(20))
    assert loader.steps_per_epoch == pytest.approx(20 / 6)


def test_wording_is_drawn_anew_in_every_epoch(make_builder):
    builder = make_builder()
    texts = [{s.id: s for step in steps for s in builder.samples(step)} for steps in (range(3), range(4, 7))]
    common = texts[0].keys() & texts[1].keys()
    assert common
    assert any(texts[0][name] != texts[1][name] for name in common)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_number_of_ranks_does_not_change_what_a_step_teaches(make_builder, world_size):
    one = make_builder(accumulation=4)
    many = make_builder(world_size=world_size, accumulation=4 // world_size)
    image_token = one.tokenizer.convert_tokens_to_ids("<image>")
    for step in range(3):
        alone = one.build(step, rank=0).batches
        shared = [b for rank in range(world_size) for b in many.build(step, rank=rank).batches]
        taught = sequences(alone, image_token)
        assert len(taught) == PER_STEP
        assert taught == sequences(shared, image_token)
        totals = {batch["num_targets"] for batch in [*alone, *shared]}
        assert totals == {float(sum(batch["target_weights"].sum() for batch in alone))}


def test_modes_and_shapes_teach_the_same_targets(make_builder):
    def supervised(mode, **shape):
        builder = make_builder(packing=replace(PACKING, mode=mode), **shape)
        steps = [builder.build(step, rank=0).batches for step in range(3)]
        return [sorted(torch.cat([batch["target_ids"] for batch in step]).tolist()) for step in steps]

    assert supervised("shared_prefix") == supervised("separate", accumulation=3) == supervised("multi_turn")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_nothing(make_builder, num_workers):
    builder = make_builder(accumulation=2, pixels=BrokenFor("r1", "r2"))
    plain = StepLoader(builder, epochs=2, max_dropped_fraction=0.5)
    parallel = StepLoader(builder, epochs=2, max_dropped_fraction=0.5, num_workers=num_workers)
    expected = [as_values(batch) for batch in plain]
    assert len(expected) == 14
    assert [as_values(batch) for batch in parallel] == expected
    assert parallel.ledger.to_dict() == plain.ledger.to_dict()


def test_iterating_leaves_the_global_random_numbers_alone(make_builder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(StepLoader(make_builder(), num_steps=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_seek_continues_exactly_and_reads_nothing_before(make_builder):
    opened = []

    def spy(sample):
        opened.append(sample.id)
        return open_pixels(sample)

    builder = make_builder(accumulation=2)
    expected = [as_values(batch) for batch in StepLoader(builder, num_steps=7)]
    loader = StepLoader(replace(builder, open_pixels=spy), num_steps=7)
    state = loader.state_dict(5)
    loader.load_state_dict(state)
    assert [as_values(batch) for batch in loader] == expected[10:]
    assert set(opened) <= {sample.id for step in (5, 6) for sample in builder.samples(step)}
    assert (state["seed"], state["epoch"], state["step"]) == (0, 1, 5)


def test_a_state_of_another_order_and_a_step_out_of_the_run_are_refused(make_builder):
    state = StepLoader(make_builder(seed=1), num_steps=3).state_dict(2)
    loader = StepLoader(make_builder(), num_steps=3)
    with pytest.raises(ValueError, match="its seed is 1, now it is 0"):
        loader.load_state_dict(state)
    with pytest.raises(ValueError, match="step 4 of a run with 3"):
        loader.seek(4)


def test_a_failed_image_is_counted_and_weighs_nothing(make_builder):
    builder = make_builder(accumulation=2, pixels=BrokenFor("r1"))
    loader = StepLoader(builder, epochs=1, max_dropped_fraction=0.1)
    whole = StepLoader(make_builder(accumulation=2), epochs=1)
    lost = 0
    for batch, healthy in zip(loader, whole, strict=True):
        assert batch["num_targets"] == healthy["num_targets"]
        lost += int((healthy["target_weights"] - batch["target_weights"]).sum())
        if "pixel_values" in healthy:
            assert (batch["pixel_values"] == 1).sum() == 0
    (sample,) = [s for step in range(4) for s in whole.builder.samples(step) if s.id == "r1"]
    plan = whole.builder.plan([sample])
    assert lost == plan.num_targets > 0
    assert loader.ledger.num_kept == 19
    assert loader.ledger.dropped == {"unreadable image": 1}
    assert "r1" in loader.ledger.examples["unreadable image"][0]


def test_an_image_of_another_size_is_counted_apart_from_an_unreadable_one(make_builder):
    def open_some(sample):
        if sample.id == "r2":
            raise SizeMismatch(f"{sample.image} is twice as wide")
        return BrokenFor("r1")(sample)

    loader = StepLoader(make_builder(pixels=open_some), epochs=1, max_dropped_fraction=0.1)
    list(loader)
    assert loader.ledger.dropped == {"unreadable image": 1, "image of another size": 1}
    assert loader.ledger.examples["image of another size"] == ["r2 (2.jpg is twice as wide)"]


def test_a_run_stops_over_the_limit_of_dropped_conversations(make_builder):
    builder = make_builder(pixels=BrokenFor(*(f"r{i}" for i in range(20))))
    loader = StepLoader(builder, num_steps=50, max_dropped_fraction=0.01)  # 3 of the first 300
    with pytest.raises(ValueError, match="unreadable image"):
        next(iter(loader))
    one_bad = StepLoader(make_builder(pixels=BrokenFor("r1")), epochs=1, max_dropped_fraction=0.05)
    assert len(list(one_bad)) == 4
    strict = StepLoader(make_builder(pixels=BrokenFor("r1")), epochs=1)
    with pytest.raises(ValueError, match="max_dropped_fraction"):
        list(strict)


def test_overlong_samples_are_dropped_once_over_all_ranks(make_builder):
    whole = make_builder(packing=PackingConfig(mode="separate", max_row_tokens=8192), rows_per_pass=30)
    trees = [t for s in range(4) for row in whole.plan(whole.samples(s)).passes[0] for t in row if t.weight]
    shortest = min(tree.num_tokens for tree in trees)
    packing = PackingConfig(max_row_tokens=shortest + 12, overlong="drop")
    loaders = [
        StepLoader(
            make_builder(packing=packing, world_size=2, accumulation=12),
            rank=rank,
            epochs=1,
            max_dropped_fraction=1.0,
        )
        for rank in range(2)
    ]
    for loader in loaders:
        list(loader)
    dropped = sum(loader.ledger.num_dropped for loader in loaders)
    assert 0 < dropped < 20
    assert loaders[0].ledger.dropped.keys() == {"longer than a row"}


def test_rows_per_pass_makes_short_rows(make_builder):
    long = make_builder().build(0, 0).batches[0]["input_ids"].shape
    short = make_builder(rows_per_pass=3).build(0, 0).batches[0]["input_ids"].shape
    assert (long[0], short[0]) == (1, 3)
    assert short[1] < 0.5 * long[1]


def test_a_mixture_with_llava_text_is_left_as_it_is(make_builder, data_file, tmp_path):
    path = tmp_path / "llava.json"
    path.write_text(
        '[{"id": "c0", "conversations": '
        '[{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Yes."}]}]'
    )
    sources = [
        Source(name="all", path=str(data_file)),
        Source(name="chat", path=str(path), kind="llava", weight=3),
    ]
    datasets, mixture = open_sources(sources, seed=0, conversations_per_step=23)
    builder = replace(make_builder(), datasets=datasets, mixture=mixture)
    chats = [sample for sample in builder.samples(0) if sample.id == "c0"]
    assert len(chats) == 3
    assert chats[0].branches == ((Turn(question="Hello", answer="Yes."),),)


@pytest.mark.parametrize("length", [{}, {"num_steps": 3, "epochs": 1.0}, {"epochs": 0}])
def test_the_length_of_a_run_is_said_once(make_builder, length):
    with pytest.raises(ValueError, match="epochs"):
        StepLoader(make_builder(), **length)


def test_a_step_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        StepShape(accumulation=0)


def test_what_the_frame_cuts_is_counted(make_builder):
    def cut(record, epoch):
        """As `render_record` does: the first query is about a dropped object; some records have no other."""
        sample = render(record, epoch)
        return replace(sample, branches=sample.branches[1:])

    builder = replace(make_builder(world_size=2), render=cut)
    loaders = [StepLoader(builder, rank=rank, epochs=1, max_dropped_fraction=1.0) for rank in range(2)]
    for loader in loaders:
        assert len(list(loader)) == 4
        assert loader.num_left_out == 20
    singles = sum(len(builder.datasets[0][i].queries) == 1 for i in range(20))
    assert sum(loader.ledger.dropped["nothing left to ask"] for loader in loaders) == singles > 0
    assert sum(loader.ledger.num_kept for loader in loaders) == 20 - singles


# ---- with real parts: records, photographs on disk, a contract, rendering


@pytest.fixture
def photographs(tmp_path):
    """Ten pictures, red left and blue right; the red half is asked for. The last file is cut off."""
    records = []
    for i in range(10):
        width, height = 40 + 8 * i, 60
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        picture[:, : width // 2, 0] = picture[:, width // 2 :, 2] = 255
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        box = Box(0, 0, width // 2, height)
        queries = (
            Query(objective="locpred", phrase="dog on the left", box_px=box),
            Query(objective="negpred", phrase="cat"),
            Query(objective="revloc", phrase="dog", box_px=box),
        )
        records.append(Record(id=f"r{i}", image=f"{i}.png", width=width, height=height, queries=queries))
    (tmp_path / "9.png").write_bytes((tmp_path / "9.png").read_bytes()[:80])
    write_records(tmp_path / "records.jsonl", records)
    return tmp_path


@pytest.mark.parametrize("frame", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("flip", [False, True])
def test_text_and_pixels_follow_the_same_frame(photographs, small_tokenizer, frame, flip):
    contract = CoordinateContract(codec="nfp", frame=frame, canvas=28, patch=14)
    source = Source(name="all", path=str(photographs / "records.jsonl"), image_root=str(photographs))
    datasets, mixture = open_sources([source], seed=0, conversations_per_step=1)
    builder = StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=lambda record, epoch: render_record(record, contract, seed=0, epoch=epoch, flip=flip),
        open_pixels=lambda sample: read_pixels(
            sample.image, mode=frame, vision=VISION, size=(sample.width, sample.height), flip=sample.flip
        ),
        tokenizer=small_tokenizer,
        conversation="vicuna_v1",
        vision=VISION,
        packing=PACKING,
        shape=StepShape(),
    )
    loader = StepLoader(builder, epochs=1, max_dropped_fraction=0.1)
    seen = 0
    for batch in loader:
        if not batch["target_weights"].any():
            assert not batch["pixel_values"].any()
            continue
        seen += 1
        assert f"dog on the {'right' if flip else 'left'}" in small_tokenizer.decode(batch["input_ids"][0])
        located, absent, described = small_tokenizer.decode(batch["target_ids"]).split("</s>")[:3]
        assert ("no such object" in absent, "dog" in described) == (True, True)
        box = contract.build_codec().decode(located, "bbox")
        red, _, blue = batch["pixel_values"][0]  # (28, 28) each, normalised: the padding lies between the two
        rows, columns = ((red - blue) > 1).nonzero().T / 28
        assert isinstance(box, Box)
        shown = (columns.min(), rows.min(), columns.max() + 1 / 28, rows.max() + 1 / 28)
        assert np.abs(np.subtract(box, shown)).max() < 1 / 28, (box, shown)
    assert seen == 9
    assert loader.ledger.dropped == {"unreadable image": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_workers_outlive_a_signal_that_their_rank_is_to_answer(make_builder, number):
    plain = StepLoader(make_builder(), epochs=4)
    parallel = StepLoader(make_builder(), epochs=4, num_workers=2)
    batches = iter(parallel)
    got = [next(batches), next(batches)]  # one of each worker: both have begun
    workers = psutil.Process().children()
    assert len(workers) >= 2
    for worker in workers:
        worker.send_signal(number)
    got += batches
    assert [batch["sample_ids"].tolist() for batch in got] == [b["sample_ids"].tolist() for b in plain]
