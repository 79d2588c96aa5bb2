"""The demo's phases about clips: clips, what rests in them, features, stage 3, questions, both exports."""

from pathlib import Path
from typing import Any

from locvlm.phases import Phase, command
from locvlm.world.demo.sizes import Size

STAGE3_CONFIG = "train/configs/demo_stage3.yaml"


def phases(out: Path, size: Size, *, seed: int) -> list[Phase]:
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
            ]
            + [command("eval/run.py", options) for options in ask_without_clips(out, size)],
            makes=[out / "eval_video"],
            needs=["stage3"],
        ),
        export(out),
    ]


def ask_about_clips(out: Path, stage: str, suffix: str) -> list[dict[str, Any]]:
    """Options of eval/run.py: a stage's questions about what rests, and those with short answers."""
    located = ",".join(f"video_{name}{suffix}" for name in ("locpred", "absent", "present", "revloc"))
    return [
        {**options, "tasks": tasks}
        for options, tasks in zip(_roots(out, stage), (located, f"video_qa{suffix}"), strict=True)
    ]


def ask_without_clips(out: Path, size: Size) -> list[dict[str, Any]]:
    """The same of stage 3, shown blank clips and those of other questions."""
    shown = {"images": "blank,shuffled", "limit": size.baseline_clips}
    tasks = ("video_locpred", "video_qa")
    return [
        {**options, "tasks": name, **shown}
        for options, name in zip(_roots(out, "stage3"), tasks, strict=True)
    ]


def _roots(out: Path, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options for questions about what rests, and for those with short answers."""
    shared = {
        "model": out / stage / "final",
        "image-root": out / "clips/videos/val",
        "output-dir": out / "eval_video" / stage,
    }
    return {**shared, "data-root": out / "video_data"}, {**shared, "data-root": out / "clips/annotations"}


def export(out: Path) -> Phase:
    """Both exports of stage 3, for clips and for images alone, and a few questions to each and to it."""
    checkpoint, for_clips, for_images = (
        out / "stage3/final",
        out / "export_video",
        out / "export_video_images",
    )
    clips = {"tasks": "video_locpred,video_revloc", "data-root": out / "video_data"}
    images = {"tasks": "locpred,revloc", "data-root": out / "data"}
    clips["image-root"], images["image-root"] = out / "clips/videos/val", out / "world/images/val"
    asked = [
        (checkpoint, clips, "checkpoint"),
        (checkpoint, images, "checkpoint"),
        (for_clips, clips, "video"),
        (for_images, images, "stock"),
    ]
    return Phase(
        name="export_video",
        commands=[
            command("scripts/export_hf.py", {"checkpoint": checkpoint, "out": for_clips}),
            command("scripts/export_hf.py", {"checkpoint": checkpoint, "out": for_images, "class": "stock"}),
            *(
                command(
                    "eval/run.py",
                    {"model": model, **what, "limit": 8, "output-dir": out / "eval_export" / name},
                )
                for model, what, name in asked
            ),
        ],
        makes=[for_clips, for_images, out / "eval_export"],
        needs=["stage3"],
        is_resumable=False,
    )
