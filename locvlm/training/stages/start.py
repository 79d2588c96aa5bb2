"""The start of a stage: ranks joined, logging set up, the run folder made or taken up again."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.utils.logging import disable_progress_bar

from locvlm import dist
from locvlm.config import read_yaml
from locvlm.config_text import to_dict
from locvlm.log import setup_logging
from locvlm.runs import RunFolder, start_run
from locvlm.training import checkpoint
from locvlm.training.arguments import Stage1Config, Stage2Config, Stage3Config, training_arguments
from locvlm.training.stages.run import FINAL

logger = logging.getLogger(__name__)

_MAY_CHANGE = (  # settings that a resumed run may have changed
    "training.resume_from_checkpoint",
    "training.logging_",
    "training.save_",
    "training.report_to",
    "training.disable_tqdm",
    "training.run_name",
    "training.log_",
    "data.num_workers",
    "data.max_dropped_fraction",
    "data.video_cache",
    "evaluation",
    "faults",
    "profile",
)


def start(config: Stage1Config | Stage2Config | Stage3Config) -> tuple[TrainingArguments, RunFolder]:
    """Ranks joined, logging set up, run folder made.

    Raises:
        ValueError: if ranks would train alone, or the folder holds a run with another configuration.
    """
    setup_logging(dist.rank())
    args = training_arguments(config.training)
    if args.disable_tqdm:
        disable_progress_bar()  # the library's bars for reading and writing weights, too
    run = Path(str(args.output_dir))
    if args.resume_from_checkpoint is None:
        require_same_run(run, config)
    folder = start_run(run, config)
    if dist.is_main():
        checkpoint.remove_incomplete(run)
    return args, folder


def require_same_run(run: Path, config: Any) -> None:
    """Check that a run folder is new or holds a run with this configuration.

    Raises:
        ValueError: naming what differs.
    """
    if not (run / "config.yaml").is_file():
        return
    before, now = dict(_flat(read_yaml(run / "config.yaml"))), dict(_flat(to_dict(config)))
    differing = [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE)
    ]
    if differing:
        raise ValueError(
            f"{run} holds a run with another configuration ({'; '.join(differing)}). "
            f"Give a new training.output_dir; or, to go on from that run with this configuration, "
            f"--training.resume_from_checkpoint "
            f"{checkpoint.last_checkpoint(run) or run / 'checkpoint-N'}"
        )


def is_finished(run: RunFolder, args: TrainingArguments) -> bool:
    """Whether this very run was completed before; then there is nothing to do."""
    if args.resume_from_checkpoint or not (run.path / FINAL).is_dir():
        return False
    logger.info(
        "%s stands already: nothing to train. To train again, remove it or give a new output_dir", run.path
    )
    dist.leave()
    return True


def _flat(tree: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{where}.{key}" if where else key)
    elif isinstance(tree, list) and tree:
        for i, value in enumerate(tree):
            yield from _flat(value, f"{where}.{i}")
    else:
        yield where, tree
