"""How long the demo's second stage waits for its data."""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from locvlm.io import read_jsonl

ROOT = Path(__file__).resolve().parents[3]
CONFIG = "train/configs/demo_stage2.yaml"


def shipped_workers() -> int:
    """How many processes prepare data as the demo runs it."""
    workers: int = yaml.safe_load((ROOT / CONFIG).read_text(encoding="utf-8"))["data"]["num_workers"]
    return workers


def measure_demo(demo: Path, *, steps: int, workers: int) -> dict[str, Any]:
    """Medians of a run's logged rows but the first, in which its processes start.

    Args:
        demo: what scripts/demo.sh left: checkpoint, records, images.
        workers: processes that prepare data, 0 for none.

    Raises:
        RuntimeError: if the stage fails.
    """
    paths = {
        "model.checkpoint": demo / "init",
        "model.adapter": demo / "stage1" / "final",
        "data.sources.0.path": demo / "data" / "localize_train.jsonl",
        "data.sources.0.image_root": demo / "world" / "images" / "train",
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **{name: path.resolve() for name, path in paths.items()},
            "data.num_workers": workers,
            "training.output_dir": Path(folder) / "run",
            "training.max_steps": steps,
            "training.save_strategy": "'no'",
            "training.report_to": "none",
        }
        options = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
        command = [sys.executable, "train/stage2.py", "--config", CONFIG, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
        rows = [row for _, row in read_jsonl(Path(folder) / "run" / "metrics.jsonl") if "step_s" in row][1:]
    wait_s, step_s = (median(row[name] for row in rows) for name in ("data_wait_s", "step_s"))
    return {"data_wait_s": wait_s, "step_s": step_s, "wait_fraction": wait_s / step_s}
