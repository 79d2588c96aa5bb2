"""A tiny world on disk: tokenizer, composed checkpoint, twelve pictures, records about them, captions."""

import json
import random
import runpy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from locvlm.config import load_config
from locvlm.data.prompt import chat_template
from locvlm.data.tokenize import load_tokenizer
from locvlm.geometry import Box
from locvlm.io import read_jsonl, read_records, record_to_json, write_jsonl, write_records
from locvlm.model.compose import compose, save_checkpoint
from locvlm.model.freeze import freeze
from locvlm.records import Query, Record
from locvlm.training.arguments import Stage2Config
from locvlm.training.stages.data import open_steps
from locvlm.training.stages.model import choose_parts, choose_weights, open_model
from locvlm.training.stages.run import make_trainer
from locvlm.training.stages.start import start
from locvlm.world.pretraining.tokenizer import train_tokenizer

NAMES = ("red square", "blue disc", "green bar", "white cross")
COLOURS = {"red square": "red", "blue disc": "blue", "green bar": "green", "white cross": "white"}
NUM_IMAGES = 12
NUM_CLIPS, NUM_FRAMES = 6, 4
SENTENCES = [
    "A chat between a curious human and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the human's questions. USER: ASSISTANT:",
    "Where is the object described red square located in image in terms of (x1,y1,x2,y2) bbox?",
    "It is located at (4, 52, 13, 63). There is no such object in the image, green bar.",
    "Describe the object located at (0, 17, 98, 224)? There is a blue disc, a white cross.",
]


@dataclass(frozen=True)
class TinyWorld:
    """Paths of what a run needs."""

    root: Path
    init: Path  # composed checkpoint
    records: Path
    captions: Path
    images: Path

    def stage(self, number: int, output: Path, *overrides: str) -> list[str]:
        """Command line of train/stage<number>.py."""
        data, conversation = (self.captions, "plain") if number == 1 else (self.records, "vicuna_v1")
        sections = {
            "--config": "train/configs/tiny.yaml",
            "--model.checkpoint": self.init,
            "--data.sources.0.path": data,
            "--data.sources.0.image_root": self.images,
            "--data.conversation": conversation,
            "--training.output_dir": output,
        }
        return [str(part) for pair in sections.items() for part in pair] + list(overrides)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> TinyWorld:
    root = tmp_path_factory.mktemp("tiny_world")
    world = TinyWorld(
        root=root,
        init=root / "init",
        records=root / "records.jsonl",
        captions=root / "captions.jsonl",
        images=root / "images",
    )
    _write_parts(root)
    tokenizer = load_tokenizer(root / "tokenizer")
    model = compose(llm=root / "llm", clip=str(root / "clip"), tokenizer=tokenizer, adapter="linear", seed=0)
    save_checkpoint(model, tokenizer, world.init, chat_template=chat_template("vicuna_v1"))
    records = [_draw_record(i, world.images) for i in range(NUM_IMAGES)]
    write_jsonl(world.records, map(record_to_json, records))
    write_jsonl(world.captions, (record_to_json(_caption(record)) for record in records))
    return world


def _write_parts(root: Path) -> None:
    train_tokenizer(SENTENCES * 4, root / "tokenizer" / "tokenizer.model", num_pieces=480)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(
        LlamaConfig(**sizes, vocab_size=480, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2)
    ).save_pretrained(root / "llm")
    vision = CLIPVisionConfig(
        **{**sizes, "num_hidden_layers": 3}, image_size=56, patch_size=14, projection_dim=16
    )
    CLIPVisionModel(vision).save_pretrained(root / "clip")


def _draw_record(i: int, images: Path) -> Record:
    """A picture with one to three rectangles, and what is asked about it."""
    rng = random.Random(i)
    width, height = rng.randint(60, 90), rng.randint(60, 90)
    picture = Image.new("RGB", (width, height), (20 * i, 100, 255 - 20 * i))
    present = rng.sample(NAMES, rng.randint(1, 3))
    queries = []
    for name in present:
        x, y = rng.uniform(0, width - 30), rng.uniform(0, height - 30)
        box = Box(x, y, x + rng.uniform(10, 30), y + rng.uniform(10, 30))
        ImageDraw.Draw(picture).rectangle(tuple(box), fill=COLOURS[name])
        queries.append(Query(objective="locpred", phrase=name, box_px=box))
        queries.append(Query(objective="revloc", phrase=name, box_px=box))
    queries += [Query(objective="negpred", phrase=name) for name in NAMES if name not in present]
    images.mkdir(exist_ok=True)
    picture.save(images / f"{i}.png")
    return Record(id=f"r{i}", image=f"{i}.png", width=width, height=height, queries=tuple(queries))


def _caption(record: Record) -> Record:
    names = [query.phrase for query in record.queries if query.objective == "locpred"]
    captions = (f"There is a {', a '.join(names)}.", f"A {names[0]} in the image.")
    queries = tuple(Query(objective="caption", answer=caption) for caption in captions)
    return Record(id=record.id, image=record.image, width=record.width, height=record.height, queries=queries)


@pytest.fixture(scope="session")
def video_world(tiny_world, tmp_path_factory, write_clip):
    """Clips that show a picture of the tiny world growing lighter, records and questions about them."""
    root = tmp_path_factory.mktemp("video_world")
    (root / "videos").mkdir()
    records, rows = [], []
    for k, record in enumerate(list(read_records(tiny_world.records))[:NUM_CLIPS]):
        with Image.open(tiny_world.images / record.image) as image:
            picture = np.asarray(image.convert("RGB").resize((image.width // 2 * 2, image.height // 2 * 2)))
        frames = [np.clip(picture.astype(int) + 4 * t, 0, 255).astype(np.uint8) for t in range(8 + k)]
        write_clip(root / "videos" / f"v_{k}.mp4", frames)
        height, width = picture.shape[:2]
        queries = tuple(
            replace(
                q,
                box_px=q.box_px
                and q.box_px._replace(x2=min(q.box_px.x2, width), y2=min(q.box_px.y2, height)),
            )
            for q in record.queries
        )
        about = {"image": None, "video": f"v_{k}.mp4", "width": width, "height": height}
        records.append(replace(record, id=f"v{k}", queries=queries, **about))
        rows.append({"q": "What is in the video?", "a": "There is a red square.", "video_id": f"v_{k}"})
    write_records(root / "videos.jsonl", records)
    (root / "instruct.json").write_text(json.dumps(rows))
    return root


@pytest.fixture(scope="session")
def stage3_of(tiny_world, video_world):
    """stage3_of(run, ...): command line of train/stage3.py, of videos, questions about them, and images."""

    def command(run, *overrides):
        videos = str(video_world / "videos")
        sources = [
            {"name": "localize", "path": str(video_world / "videos.jsonl"), "video_root": videos},
            {
                "name": "instruct",
                "path": str(video_world / "instruct.json"),
                "kind": "llava",
                "video_root": videos,
            },
            {
                "name": "images",
                "path": str(tiny_world.records),
                "image_root": str(tiny_world.images),
                "weight": 0.5,
            },
        ]
        return [
            *("--config", "train/configs/tiny.yaml", "--model.checkpoint", str(tiny_world.init)),
            *("--data.sources", json.dumps(sources), "--training.output_dir", str(run)),
            *("--video.num_frames", str(NUM_FRAMES), *overrides),
        ]

    return command


@pytest.fixture
def run_stage(monkeypatch, repo_root):
    """run_stage(2, [...]): the program in this process, as if started from the checkout."""

    def run(number: int, arguments: list[str]) -> None:
        monkeypatch.chdir(repo_root)
        monkeypatch.setattr("sys.argv", [f"train/stage{number}.py", *arguments])
        runpy.run_path(f"train/stage{number}.py", run_name="__main__")

    return run


@pytest.fixture
def build(tiny_world, tmp_path, monkeypatch, repo_root):
    """build("--a.b", "value", ...): trainer and run folder of stage 2 on the tiny world."""

    def make(*overrides, run="run", evaluation=None):
        monkeypatch.chdir(repo_root)
        cfg = load_config(Stage2Config, tiny_world.stage(2, tmp_path / run, *overrides))
        args, folder = start(cfg)
        tokenizer = load_tokenizer(cfg.model.checkpoint)
        model = open_model(cfg.model, cfg.coords, args, conversation=cfg.data.conversation)
        freeze(model, train=choose_parts(cfg, model, seed=args.seed))
        loader = open_steps(cfg.data, cfg.packing, args, model=model, tokenizer=tokenizer)
        trainer = make_trainer(
            model,
            args,
            loader=loader,
            weights=choose_weights(cfg, tokenizer),
            run=folder,
            evaluation=evaluation and evaluation(folder),
            optimizer=cfg.optimizer,
            faults=cfg.faults,
        )
        return trainer, folder

    return make


@pytest.fixture(scope="session")
def rows_of():
    """rows_of(run_folder): the training rows of its metrics.jsonl."""
    return lambda run: [row for _, row in read_jsonl(run / "metrics.jsonl") if "loss" in row]


@pytest.fixture(scope="session")
def weights_of():
    """weights_of(folder): every tensor of its safetensors files, by name."""

    def read(folder: Path) -> dict[str, torch.Tensor]:
        tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            tensors.update(load_file(path))
        assert tensors, folder
        return tensors

    return read
