"""The training of a stage, from its trainer to its final weights."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from locvlm import dist
from locvlm.data.loader import StepLoader
from locvlm.io import write_json
from locvlm.model.freeze import FreezeRow
from locvlm.model.locvlm import LocVLM
from locvlm.runs import RunFolder
from locvlm.training import checkpoint
from locvlm.training.arguments import EvaluationConfig, FaultConfig, OptimizerConfig
from locvlm.training.evaluation import PeriodicEvaluation
from locvlm.training.preview import describe_batch
from locvlm.training.trainer import LocVLMTrainer

logger = logging.getLogger(__name__)

Scores = Callable[[LocVLM, PreTrainedTokenizerBase], dict[str, float]]

FINAL = "final"  # folder of a run that holds what the stage was for; it appears last


def make_trainer(
    model: LocVLM,
    args: TrainingArguments,
    *,
    loader: StepLoader,
    weights: checkpoint.Weights,
    run: RunFolder,
    evaluation: PeriodicEvaluation | None = None,
    optimizer: OptimizerConfig | None = None,
    faults: FaultConfig | None = None,
) -> LocVLMTrainer:
    """The trainer, logging to the run folder."""
    return LocVLMTrainer(
        model,
        args,
        loader=loader,
        weights=weights,
        metrics=run.metrics.write,
        evaluation=evaluation,
        optimizer=optimizer,
        faults=faults,
    )


def make_evaluation(
    config: EvaluationConfig,
    open_scores: Callable[..., Scores],
    tasks: Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    run: RunFolder,
    weights: checkpoint.Weights | None = None,
) -> PeriodicEvaluation | None:
    """The small evaluation of a run, logging to its folder; None if it is off.

    Args:
        open_scores: `SmallEvaluation.of_tasks`, which the program passes in: training does not know evals.
        tasks: folder of the tasks' files.
        weights: how RUN/best is written; left out, as checkpoints are.
    """
    if not config.every_steps:
        return None
    scores = open_scores(
        tasks,
        config.tasks,
        data_root=config.data_root,
        image_root=config.image_root,
        num_questions=config.num_questions,
    )
    return PeriodicEvaluation(
        config,
        lambda model, step: scores(model, tokenizer),
        run=run.path,
        metrics=run.metrics.write,
        weights=weights,
    )


def describe_start(
    run: RunFolder, loader: StepLoader, table: Sequence[FreezeRow], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write what the run is about to do: freeze_table.json, and the first batch as text, first_batch.txt."""
    shape = loader.builder.shape
    logger.info(
        "%d steps of %d conversations: %d ranks x %d passes x %d rows of at most %d tokens",
        loader.num_steps,
        loader.builder.mixture.conversations_per_step,
        shape.world_size,
        shape.accumulation,
        shape.rows_per_pass,
        loader.builder.packing.max_row_tokens,
    )
    if not dist.is_main():
        return
    write_json(run.path / "freeze_table.json", [asdict(row) for row in table])
    batch = loader.builder.build(0, rank=0).batches[0]
    text = describe_batch(batch, tokenizer)
    (run.path / "first_batch.txt").write_text(text, encoding="utf-8")
    logger.info("first batch, see %s:\n%s", run.path / "first_batch.txt", text[:600])


def train(trainer: LocVLMTrainer, run: RunFolder) -> None:
    """Train to the end, from the newest complete checkpoint if there is one.

    Raises:
        ValueError: if `training.resume_from_checkpoint` names one that this run cannot go on from.
        BadLoss: if a loss is no number, or a leap, and `faults.on_bad_loss` says to stop.
        SystemExit: with `PREEMPTED_EXIT_CODE`, once a signal has told the run to leave and it has saved.
    """
    chosen = trainer.args.resume_from_checkpoint
    folder = Path(chosen) if chosen else checkpoint.last_checkpoint(run.path)
    step = trainer.prepare_resume(folder) if folder else 0
    if folder is not None:
        logger.info("going on from %s", folder)
    if dist.is_main():
        run.metrics.rewind(step)  # what a stopped run logged beyond its last checkpoint comes again
    if trainer.loader.quarantine is not None:
        trainer.loader.quarantine.rewind(step)
    trainer.train(resume_from_checkpoint=str(folder) if folder else None)
    if trainer.preemption.has_come:
        trainer.preemption.leave(trainer.state.global_step)


def finish(
    trainer: LocVLMTrainer, run: RunFolder, loader: StepLoader, *, weights: checkpoint.Weights | None = None
) -> Path:
    """Write what was dropped, dropped.json, and the final weights, RUN/final, which appears complete.

    They are written as checkpoints are, or by `weights`.

    dropped.json counts since the last start of this run: conversations by rank, and the queries of all ranks
    that were left out because the frame cuts their objects. The ranks part here.
    """
    ledgers: list[Any] = [loader.ledger.to_dict()]
    if dist.world_size() > 1:
        ledgers *= dist.world_size()
        torch.distributed.all_gather_object(ledgers, loader.ledger.to_dict())
    if dist.is_main():
        num_cut = loader.num_left_out  # of all ranks already: each renders whole steps
        write_json(run.path / "dropped.json", {"by_rank": ledgers, "queries_cut_by_frame": num_cut})
        if num_cut:
            logger.warning(
                "%d queries were not asked, because the frame cuts their objects off; coords.frame stretch "
                "and pad keep all of them",
                num_cut,
            )
    if weights is not None:
        trainer.weights = weights
    trainer.save_complete(FINAL)
    logger.info("wrote %s", run.path / FINAL)
    dist.leave()
    return run.path / FINAL
