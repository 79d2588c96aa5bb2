"""The whole way in one go: a world, two stages of training, evaluation, export, a report; on a laptop's CPU.

    bash scripts/demo.sh                 runs/demo/report.html, and a table on the terminal
    bash scripts/demo.sh --quick         the same in about three minutes, with no claim on accuracy
    bash scripts/demo.sh --codec diga    locations written another way, in runs/demo_diga
    bash scripts/demo.sh --video         and then stage 3, on clips, in the same folder and report

Every phase is one or more programs of this repository, shown as they start, so that each can be run by hand.
A phase that finished with the same commands, configuration and backbones is skipped when this is started
again; one that was interrupted goes on where it was.
"""

import argparse
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from locvlm.io import read_json, write_json
from locvlm.log import setup_logging
from locvlm.phases import Phase, PhaseFailed, run_phases

ROOT = Path(__file__).resolve().parents[1]
STAGE1_CONFIG = "train/configs/demo_stage1.yaml"
STAGE2_CONFIG = "train/configs/demo_stage2.yaml"
STAGE3_CONFIG = "train/configs/demo_stage3.yaml"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    train_scenes: int
    val_scenes: int
    stage1_eval_scenes: int  # stage 1 has not seen a location yet: a few suffice to say so
    baseline_scenes: int
    train_clips: int
    val_clips: int
    stage1: dict[str, Any] = field(default_factory=dict)  # overrides of the stages' configs
    stage2: dict[str, Any] = field(default_factory=dict)
    stage3: dict[str, Any] = field(default_factory=dict)


FULL = Size(
    train_scenes=12_000,
    val_scenes=500,
    stage1_eval_scenes=100,
    baseline_scenes=500,
    train_clips=1_500,
    val_clips=150,
)
QUICK = Size(
    train_scenes=300,
    val_scenes=24,
    stage1_eval_scenes=8,
    baseline_scenes=8,
    train_clips=24,
    val_clips=8,
    stage1={"training.max_steps": 12, "training.save_steps": 6},
    stage2={"training.max_steps": 20, "training.save_steps": 10},
    stage3={"training.max_steps": 8, "training.save_steps": 4},
)


def command(program: str, options: dict[str, Any]) -> list[str]:
    """The program with `--name value` for each option."""
    return [program, *(text for name, value in options.items() for text in (f"--{name}", str(value)))]


def plan(out: Path, size: Size, *, codec: str, seed: int, with_video: bool = False) -> list[Phase]:
    """The phases in order."""
    world, data, init = prepare(out, size, codec=codec, seed=seed)
    stage1, stage2 = train(out, size)
    eval_stage1, eval_stage2 = evaluate(out, size)
    export, report = finish(out)
    phases = [world, data, init, stage1, eval_stage1, stage2, eval_stage2, export]
    if with_video:
        phases += video(out, size, seed=seed)
        report = replace(report, needs=[*report.needs, phases[-1].name])
    return [*phases, report]


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
            files=sorted((ROOT / "locvlm/world/weights").glob("[!.]*")),  # it copies them
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


def video(out: Path, size: Size, *, seed: int) -> list[Phase]:
    """Clips; what rests in them, as ActivityNet's builder finds it; features; stage 3; questions after it."""
    clips, data, notes = out / "clips", out / "video_data", out / "clips/annotations"
    make = {"out": clips, "only": "clips", "train-clips": size.train_clips, "val-clips": size.val_clips}
    localize = [
        {
            "videos": clips / "videos" / split,
            "panoptic": notes / f"panoptic_clips_{split}.json",
            "out": data / f"localize_clips_{split}.jsonl",
            "negatives-per-video": absent,
            "seed": seed,
        }
        for split, absent in (("train", 2), ("val", 4))
    ]
    sources = [data / "localize_clips_train.jsonl", notes / "instruct_clips_train.jsonl"]
    stage3 = {
        "config": STAGE3_CONFIG,
        "model.checkpoint": out / "stage2/final",
        **{f"data.sources.{k}.path": path for k, path in enumerate(sources)},
        **{f"data.sources.{k}.video_root": clips / "videos/train" for k in range(len(sources))},
        "data.video_cache": out / "video_features",
        "training.output_dir": out / "stage3",
        **size.stage3,
    }
    return [
        Phase(
            name="clips",
            commands=[command("scripts/make_world.py", {**make, "seed": seed})],
            makes=[clips],
        ),
        Phase(
            name="video_data",
            commands=[command("data_builders/localize_activitynet.py", options) for options in localize],
            makes=[data],
            needs=["clips"],
            is_resumable=False,
        ),
        Phase(
            name="video_features",
            commands=[command("scripts/cache_video_features.py", stage3)],
            makes=[out / "video_features"],
            needs=["video_data", "stage2"],
            configs=[STAGE3_CONFIG],
        ),
        Phase(
            name="stage3",
            commands=[command("train/stage3.py", stage3)],
            makes=[out / "stage3"],
            needs=["video_features"],
            configs=[STAGE3_CONFIG],
        ),
        Phase(
            name="eval_video",
            commands=[
                command("eval/run.py", options)
                for stage, suffix in (("stage3", ""), ("stage2", "_frame"))
                for options in ask_about_clips(out, stage, suffix)
            ],
            makes=[out / "eval_video"],
            needs=["stage3"],
        ),
    ]


def ask_about_clips(out: Path, stage: str, suffix: str) -> list[dict[str, Any]]:
    """Options of eval/run.py: a stage's questions about what rests, and those with short answers."""
    located = ",".join(f"video_{name}{suffix}" for name in ("locpred", "absent", "present", "revloc"))
    shared = {
        "model": out / stage / "final",
        "image-root": out / "clips/videos/val",
        "output-dir": out / "eval_video" / stage,
    }
    return [
        {**shared, "tasks": located, "data-root": out / "video_data"},
        {**shared, "tasks": f"video_qa{suffix}", "data-root": out / "clips/annotations"},
    ]


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


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="all phases, hardly any training: three minutes")
    parser.add_argument("--video", action="store_true", help="a third stage, on clips: a quarter of an hour")
    parser.add_argument(
        "--codec", choices=("ivb", "nfp", "diga"), default="ivb", help="how locations are written"
    )
    parser.add_argument(
        "--out", type=Path, help="run folder; default: runs/demo, with _quick and the codec added"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and the questions")
    args = parser.parse_args()
    suffix = ("_quick" if args.quick else "") + ("" if args.codec == "ivb" else f"_{args.codec}")
    args.out = args.out or Path("runs") / f"demo{suffix}"
    return args


def main() -> None:
    """Run every phase that does not stand yet; seconds per phase join the scores."""
    args = parse_arguments()
    os.chdir(ROOT)
    setup_logging()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = QUICK if args.quick else FULL
    phases = plan(args.out, size, codec=args.codec, seed=args.seed, with_video=args.video)
    try:
        journal = run_phases(phases, args.out, root=ROOT)
    except PhaseFailed as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; started again, it goes on here")
    seconds = {f"seconds_{name}": value for name, value in journal.seconds().items()}
    scores = args.out / "scores.json"
    write_json(scores, {**read_json(scores), **seconds})
    print(f"\n{sum(journal.seconds().values()) / 60:.1f} minutes in all phases, over all starts")
    print(f"report {args.out / 'report.html'}\nscores {scores}\nmodel  {args.out / 'export'}")


if __name__ == "__main__":
    main()
