"""The same records in a folder, in a zip and in tar shards train alike, and resume alike."""

import io
import json
import multiprocessing
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.data import index_cache
from locvlm.data.dataset import FileDataset
from locvlm.data.image import load_image, read_pixels
from locvlm.data.loader import StepLoader
from locvlm.data.mixture import Mixture, Source
from locvlm.data.packing import PackingConfig
from locvlm.data.quarantine import Quarantine
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.geometry import Box
from locvlm.io import record_to_json, write_records
from locvlm.objectives.render import render_record
from locvlm.records import Query, Record
from locvlm.spec import VisionSpec

VISION = VisionSpec(canvas=28, patch=14)
CONTRACT = CoordinateContract(codec="ivb", frame="stretch", canvas=28, patch=14)
NUM_RECORDS, BROKEN = 13, 5
STORAGES = ["folder", "zip", "tars"]


def render(record, epoch):
    return render_record(record, CONTRACT, seed=0, epoch=epoch, flip=False)


def open_pixels(sample):
    return read_pixels(
        sample.image, mode="stretch", vision=VISION, size=(sample.width, sample.height), flip=sample.flip
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with thirteen records and their images in each form; one image is cut off."""
    folder = tmp_path_factory.mktemp("stored")
    rng = np.random.default_rng(0)
    records, images = [], {}
    for n in range(NUM_RECORDS):
        pixels = rng.integers(256, size=(30 + n, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG")
        images[f"{n:03}.jpg"] = file.getvalue()[: 200 if n == BROKEN else None]
        box = Box(n, 1, n + 9, 20)
        queries = (
            Query(objective="locpred", phrase="dog", box_px=box),
            Query(objective="revloc", phrase="dog on grass", box_px=box),
        )
        records.append(Record(id=f"r{n}", image=f"{n:03}.jpg", width=40, height=30 + n, queries=queries))
    write_records(folder / "records.jsonl", records)
    (folder / "images").mkdir()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name, data in images.items():
            (folder / "images" / name).write_bytes(data)
            archive.writestr(name, data)
    for first in range(0, NUM_RECORDS, 5):
        with tarfile.open(folder / f"{first // 5:05}.tar", "w") as tar:
            for record in records[first : first + 5]:
                text = json.dumps(record_to_json(record)).encode()
                for name, data in ((record.image, images[record.image]), (f"{record.image[:3]}.json", text)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def source(stored, storage):
    if storage == "tars":
        return Source(name="all", path=f"{stored}/{{00000..00002}}.tar", kind="webdataset")
    root = stored / {"folder": "images", "zip": "images.zip"}[storage]
    return Source(name="all", path=str(stored / "records.jsonl"), image_root=str(root))


def make_builder(sources, tokenizer, *, per_step=4, **shape):
    datasets, mixture = open_sources(sources, seed=0, conversations_per_step=per_step)
    return StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=render,
        open_pixels=open_pixels,
        tokenizer=tokenizer,
        conversation="vicuna_v1",
        vision=VISION,
        packing=PackingConfig(max_row_tokens=1024),
        shape=StepShape(**shape),
    )


def as_values(batches):
    return [
        {name: v.tolist() if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
        for batch in batches
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("rank", [0, 1])
def test_every_storage_gives_the_same_batches_and_drops(stored, small_tokenizer, num_workers, rank):
    found, ledgers = [], []
    for storage in STORAGES:
        builder = make_builder([source(stored, storage)], small_tokenizer, world_size=2, accumulation=2)
        loader = StepLoader(builder, rank=rank, epochs=2, num_workers=num_workers, max_dropped_fraction=0.5)
        found.append(as_values(loader))
        ledgers.append((loader.ledger.num_kept, loader.ledger.dropped))
    assert len(found[0]) == 14
    assert sum("pixel_values" in batch for batch in found[0]) >= 7
    assert found[0] == found[1] == found[2]
    assert ledgers[0] == ledgers[1] == ledgers[2]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_resumed_run_goes_on_exactly(stored, small_tokenizer, storage, step):
    def loader(num_workers):
        builder = make_builder([source(stored, storage)], small_tokenizer)
        return StepLoader(builder, epochs=2, num_workers=num_workers, max_dropped_fraction=0.5)

    whole, resumed = loader(2), loader(2)
    uninterrupted = as_values(whole)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict(step))))
    assert len(uninterrupted) == 7
    assert as_values(resumed) == uninterrupted[step:]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_broken_image_goes_to_the_quarantine_with_step_and_source(
    stored, small_tokenizer, storage, tmp_path
):
    builder = make_builder([source(stored, storage)], small_tokenizer)
    loader = StepLoader(
        builder, epochs=1, num_workers=2, max_dropped_fraction=0.1, quarantine=Quarantine(tmp_path)
    )
    list(loader)
    (line,) = [json.loads(text) for text in (tmp_path / "quarantine-rank0.jsonl").read_text().splitlines()]
    (step,) = [step for step in range(4) if f"r{BROKEN}" in [s.id for s in builder.samples(step)]]
    detail = line.pop("detail")
    assert line == {"step": step + 1, "id": f"r{BROKEN}", "source": "all", "reason": "unreadable image"}
    assert f"{BROKEN:03}.jpg" in detail


def test_the_run_stops_over_the_limit_and_has_written_why(stored, small_tokenizer, tmp_path):
    broken = Source(
        name="gone", path=str(stored / "records.jsonl"), image_root=str(stored / "images.zip/sub")
    )
    builder = make_builder([broken], small_tokenizer)
    loader = StepLoader(builder, num_steps=9, max_dropped_fraction=0.1, quarantine=Quarantine(tmp_path))
    with pytest.raises(ValueError, match=r"training data: dropped 4 of 4 items"):
        list(loader)
    assert len((tmp_path / "quarantine-rank0.jsonl").read_text().splitlines()) == 4


def test_malformed_records_are_counted_by_one_rank_and_the_others_train(tmp_path, small_tokenizer):
    path = tmp_path / "records.jsonl"
    write_records(
        path,
        [
            Record(id=f"r{n}", image=None, queries=(Query(objective="caption", answer="dog"),))
            for n in range(40)
        ],
    )
    lines = path.read_text().splitlines()
    lines[7], lines[30] = '{"id": }', '{"id": "x", "image": null, "queries": [{"objective": "guess"}]}'
    path.write_text("\n".join(lines))
    loaders = []
    for rank in range(2):
        builder = make_builder([Source(name="text", path=str(path))], small_tokenizer, world_size=2)
        quarantine = Quarantine(tmp_path, rank=rank, world_size=2)
        loader = StepLoader(builder, rank=rank, epochs=1, max_dropped_fraction=0.2, quarantine=quarantine)
        assert len(list(loader)) == 10
        loaders.append(loader)
    assert sum(loader.ledger.num_kept for loader in loaders) == 38
    rows = [
        json.loads(text)
        for file in tmp_path.glob("quarantine-rank*.jsonl")
        for text in file.read_text().splitlines()
    ]
    rows.sort(key=lambda row: row["id"])
    assert [(row["id"], row["source"], row["reason"]) for row in rows] == [
        ("entry 30", "text", "malformed record"),
        ("entry 7", "text", "malformed record"),
    ]
    assert ("records.jsonl:31" in rows[0]["detail"], "records.jsonl:8" in rows[1]["detail"]) == (True, True)


def test_a_source_of_another_kind_is_refused_before_anything_is_dropped(stored):
    wrong = Source(name="all", path=str(stored / "records.jsonl"), kind="llava")
    with pytest.raises(ValueError, match=r"records.jsonl:1: .*list of \"conversations\""):
        open_sources([wrong], seed=0, conversations_per_step=1)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_spawned_process_reads_what_it_is_sent(stored, storage):
    chosen = source(stored, storage)
    dataset = FileDataset(chosen.path, image_root=chosen.image_root, kind=chosen.kind)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        item = pool.apply(dataset.__getitem__, (3,))
        image = pool.apply(load_image, (item.image,))
    assert item == dataset[3]
    assert image.tobytes() == load_image(dataset[3].image).tobytes()


def test_what_is_sent_to_a_worker_does_not_grow_with_the_data(tmp_path, small_tokenizer, monkeypatch):
    monkeypatch.setenv("LOCVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHE_FROM_BYTES", 1)
    sizes = []
    for name, count in (("few", 100), ("lot", 20_000)):
        path = tmp_path / f"{name}.jsonl"
        line = '{"id": "r", "image": null, "queries": [{"objective": "caption", "answer": "dog"}]}\n'
        path.write_text(line * count)
        builder = make_builder([Source(name="all", path=str(path))], small_tokenizer)
        builder.mixture.step(0)
        sizes.append(len(pickle.dumps((builder.datasets, builder.mixture))))
    assert abs(sizes[1] - sizes[0]) < 100


def test_a_mixture_that_was_sent_draws_the_same(stored):
    mixture = Mixture([source(stored, "zip")], [13], seed=3, conversations_per_step=5)
    expected = [mixture.step(step) for step in range(6)]
    sent = pickle.loads(pickle.dumps(mixture))
    assert [sent.step(step) for step in range(6)] == expected
