"""One rank and two, each with one core, at the same step: real processes of train/stage2.py over gloo."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.growth.steps import require_equal
from locvlm.benchmarks.peers.start import write_start
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline
from locvlm.benchmarks.stored_data import make_lines
from locvlm.io import read_json, read_jsonl, write_json

RECORDS, CONVERSATIONS = 256, 8  # a step's conversations, whoever computes them
ROW_TOKENS = 1024
ROWS, ROWS_PER_PASS = 4, 2  # of a step; one rank computes it in two passes, two ranks in one
WARMUP, PROFILED = 2, 1  # steps before the timed ones, and those taken apart after them
ENGINES = ("DDP", "ZeRO-2")


@dataclass(frozen=True, kw_only=True)
class Start:
    """One way to start the ranks."""

    engine: str
    ranks: int
    threads: int = 1  # of each rank

    @property
    def name(self) -> str:
        """Such as "DDP, 2 x 1 threads"."""
        return f"{self.engine}, {self.ranks} x {self.threads}"

    @property
    def command(self) -> list[str]:
        """Without the program's own options."""
        if self.engine == "ZeRO-2":
            options = ["--num_gpus", str(self.ranks), "--master_port", str(_free_port())]
            return [_beside_python("deepspeed"), *options, "train/stage2.py"]
        options = ["--nproc_per_node", str(self.ranks), "--master_port", str(_free_port())]
        return [_beside_python("torchrun"), *options, "train/stage2.py"]


STARTS = (
    Start(engine="DDP", ranks=1),
    Start(engine="DDP", ranks=2),
    Start(engine="ZeRO-2", ranks=1),
    Start(engine="ZeRO-2", ranks=2),
    Start(engine="DDP", ranks=1, threads=2),
)


def measure_ranks(root: Path, folder: Path, *, sizes: ModelSizes, timed_steps: int, rounds: int) -> Curve:
    """Seconds of a step by the number of ranks; all runs see the same conversations.

    Args:
        root: the checkout, whose train/stage2.py runs.
        folder: for the model, the records and the runs.

    Raises:
        RuntimeError: if a run fails, with the end of what it said.
        ValueError: if losses differ, so that not the same was computed.
    """
    write_start(folder / "start", sizes)
    (folder / "data").mkdir()
    write_json(folder / "run.yaml", run_settings(folder, make_lines(folder / "data", RECORDS), timed_steps))
    runs: dict[Start, list[Path]] = {start: [] for start in STARTS}
    for number in range(rounds):
        for start in STARTS:
            out = folder / f"{start.name.replace(', ', '-').replace(' ', '')}-{number}"
            _train(root, folder / "run.yaml", start, out)
            runs[start].append(out)
    timed = {start: [s for out in outs for s in step_rows(out, timed_steps)] for start, outs in runs.items()}
    losses = {start.name: timed[start][0]["loss"] for start in STARTS}
    for engine in ENGINES:  # DDP trains fp32 weights under autocast, ZeRO-2 rounds them to bf16 in every step
        require_equal({start.name: losses[start.name] for start in STARTS if start.engine == engine})
    seconds = {start.name: [row["step_s"] for row in rows] for start, rows in timed.items()}
    lines = {
        engine: [
            (start.ranks, median(seconds[start.name]))
            for start in STARTS
            if start.engine == engine and start.threads == 1
        ]
        for engine in ENGINES
    }
    return Curve(
        title="Two ranks instead of one, the same step",
        x="ranks, one core each",
        y="s a step",
        lines=lines,
        shares={start.name: _shares(runs[start][-1]) for start in STARTS},
        more={
            "seconds": seconds,
            "losses": losses,
            "two_threads_s": median(seconds[STARTS[-1].name]),
            "row_fill": {start.name: timed[start][0]["row_fill"] for start in STARTS},
        },
    )


def run_settings(folder: Path, source: dict[str, Any], timed_steps: int) -> dict[str, Any]:
    """A run of stage 2, but for how its rows are divided."""
    return {
        "model": {"checkpoint": str(folder / "start"), "attn_implementation": "tree"},
        "data": {
            "conversations_per_step": CONVERSATIONS,
            "conversation": "vicuna_v1",
            "num_workers": 0,
            "sources": [{"name": "lines", **source}],
        },
        "packing": {"max_row_tokens": ROW_TOKENS},
        "profile": {"steps": PROFILED, "after": WARMUP + timed_steps},
        "training": {
            "output_dir": str(folder / "run"),
            "max_steps": WARMUP + timed_steps + 2 * PROFILED + 1,
            "logging_steps": 1,
            "save_strategy": "no",
            "learning_rate": 1e-4,
            "bf16": True,
            "use_cpu": True,
            "report_to": "none",
        },
    }


def step_rows(run: Path, timed_steps: int) -> list[dict[str, Any]]:
    """What metrics.jsonl says of the timed steps."""
    rows = [row for _, row in read_jsonl(run / "metrics.jsonl") if "step_s" in row]
    return [row for row in rows if WARMUP < row["step"] <= WARMUP + timed_steps]


def headline(curve: Curve) -> list[Headline]:
    """What the second rank gains, and what a second thread of one rank does."""
    found = [
        Headline(
            what=f"a step of {CONVERSATIONS} conversations on 2 ranks, {engine}",
            figure=curve.at(engine, 1) / curve.at(engine, 2),
            unit=TIMES_AS_FAST,
            than="1 rank on one core",
        )
        for engine in curve.lines
    ]
    gained = curve.at("DDP", 1) / curve.more["two_threads_s"]
    what = f"a step of {CONVERSATIONS} conversations on 1 rank of two threads"
    return [*found, Headline(what=what, figure=gained, unit=TIMES_AS_FAST, than="1 rank on one core")]


def _train(root: Path, settings: Path, start: Start, out: Path) -> None:
    options = {
        "--config": settings,
        "--training.output_dir": out,
        "--training.per_device_train_batch_size": ROWS_PER_PASS,
        "--training.gradient_accumulation_steps": ROWS // ROWS_PER_PASS // start.ranks,
    }
    if start.engine == "ZeRO-2":
        options["--training.deepspeed"] = "ds_configs/zero2.json"
    command = [*start.command, *(str(word) for option in options.items() for word in option)]
    threads = {"OMP_NUM_THREADS": str(start.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, env={**os.environ, **threads}, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{start.name} ended with status {done.returncode}:\n{done.stderr[-3000:]}")


def _shares(run: Path) -> dict[str, float]:
    """Of the time of the steps that were taken apart on rank 0, that of each part."""
    seconds: dict[str, float] = read_json(run / "profile" / "parts.json")["seconds_per_step"]
    whole = sum(seconds.values())
    return {part: taken / whole for part, taken in seconds.items()}


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).with_name(program))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
