"""The demo's phases about images: scenes, stages 1 and 2, questions, export, report."""

from pathlib import Path
from typing import Any

from locvlm.phases import Phase, command
from locvlm.world.demo.sizes import Size

STAGE1_CONFIG = "train/configs/demo_stage1.yaml"
STAGE2_CONFIG = "train/configs/demo_stage2.yaml"
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def prepare(out: Path, size: Size, *, codec: str, seed: int) -> tuple[Phase, Phase, Phase]:
    """Scenes and backbones; what is asked about them; the checkpoint that training starts from."""
    world, data, init = out / "world", out / "data", out / "init"
    notes = world / "annotations"
    scenes = {"out": world, "train": size.train_scenes, "val": size.val_scenes, "seed": seed}
    parts = {"llm": world / "llm", "clip": world / "clip", "tokenizer": world / "tokenizer"}
    captions = {"captions": notes / "captions_train.json", "out": data / "stage1_train.jsonl"}
    localize = [
        {
            "instances": notes / f"instances_{split}.json",
            "out": data / f"localize_{split}.jsonl",
            "negatives-per-image": absent,
            "seed": seed,
        }
        for split, absent in (("train", 1), ("val", 4))
    ]
    spatial = {"instances": notes / "instances_val.json", "out": data, "seed": seed}
    return (
        Phase(
            name="world",
            commands=[command("scripts/make_world.py", scenes)],
            makes=[world],
            files=sorted(WEIGHTS.glob("[!.]*")),  # it copies them
        ),
        Phase(
            name="data",
            commands=[
                command("data_builders/stage1_pairs.py", captions),
                *(command("data_builders/localize_instruct.py", options) for options in localize),
                command("data_builders/coco_spatial.py", spatial),
            ],
            makes=[data],
            needs=["world"],
            is_resumable=False,
        ),
        Phase(
            name="init",
            commands=[
                [
                    *command("scripts/init_checkpoint.py", {**parts, "codec": codec, "out": init}),
                    *("--adapter", "mlp", "--match-embeddings"),
                ]
            ],
            makes=[init],
            needs=["world"],
            is_resumable=False,
        ),
    )


def train(out: Path, size: Size) -> tuple[Phase, Phase]:
    """The adapter on captions; adapter and language model on the objectives."""

    def options(config: str, records: str, stage: str) -> dict[str, Any]:
        return {
            "config": config,
            "model.checkpoint": out / "init",
            "data.sources.0.path": out / "data" / records,
            "data.sources.0.image_root": out / "world/images/train",
            "training.output_dir": out / stage,
        }

    stage1 = {**options(STAGE1_CONFIG, "stage1_train.jsonl", "stage1"), **size.stage1}
    stage2 = {**options(STAGE2_CONFIG, "localize_train.jsonl", "stage2"), **size.stage2}
    stage2["model.adapter"] = out / "stage1/final"
    return (
        Phase(
            name="stage1",
            commands=[command("train/stage1.py", stage1)],
            makes=[out / "stage1"],
            needs=["data", "init"],
            configs=[STAGE1_CONFIG],
        ),
        Phase(
            name="stage2",
            commands=[command("train/stage2.py", stage2)],
            makes=[out / "stage2"],
            needs=["data", "init", "stage1"],
            configs=[STAGE2_CONFIG],
        ),
    )


def evaluate(out: Path, size: Size) -> tuple[Phase, Phase]:
    """The held-out questions after each stage; after the second also without the right image."""
    questions = {"data-root": out / "data", "image-root": out / "world/images/val"}
    after1 = {
        "model": out / "init",
        "adapter": out / "stage1/final",
        "tasks": "locpred,absent,revloc",
        "limit": size.stage1_eval_scenes,
        "output-dir": out / "eval/stage1",
        **questions,
    }
    after2 = {"model": out / "stage2/final", "output-dir": out / "eval/stage2", **questions}
    baseline = {"tasks": "locpred", "images": "blank,shuffled", "limit": size.baseline_scenes}
    return (
        Phase(
            name="eval_stage1",
            commands=[command("eval/run.py", after1)],
            makes=[out / "eval/stage1"],
            needs=["stage1"],
        ),
        Phase(
            name="eval_stage2",
            commands=[
                command("eval/run.py", {**after2, "tasks": "locpred,absent,present,revloc,coco_spatial_*"}),
                command("eval/run.py", {**after2, **baseline}),
            ],
            makes=[out / "eval/stage2"],
            needs=["stage2"],
        ),
    )


def finish(out: Path) -> tuple[Phase, Phase]:
    """The stock checkpoint, and the page to look at."""
    export = {"checkpoint": out / "stage2/final", "out": out / "export"}
    return (
        Phase(
            name="export",
            commands=[command("scripts/export_hf.py", export)],
            makes=[out / "export"],
            needs=["stage2"],
            is_resumable=False,
        ),
        Phase(
            name="report",
            commands=[command("eval/report.py", {"run": out})],
            needs=["eval_stage1", "eval_stage2", "export"],
            is_always_run=True,
        ),
    )
