"""The one Trainer subclass: packed micro-batches, a loss that is the mean over the whole step, exact resume.

What Hugging Face's Trainer does and this class changes:

- It wraps a data loader so that rank 0 reads for everybody, and re-reads what was trained before a resume.
  Our loader plans every step alike on every rank and can start anywhere: it is handed through as it is.
- It takes the mean of each micro-batch and then the mean of the means. Our batches carry `num_targets`, the
  count of the whole step over all ranks and accumulation passes, and the model divides by it. Engines average
  gradients over ranks, so the loss is multiplied by their number; accumulation is a plain sum.
- It writes checkpoints in place. Ours appear complete, by a rename (`training/checkpoint.py`).
"""

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, rotate_checkpoints

from locvlm.data.loader import StepLoader
from locvlm.model.locvlm import LocVLM
from locvlm.muon import Muon, muon_groups
from locvlm.training import checkpoint, universal
from locvlm.training.arguments import FaultConfig, OptimizerConfig
from locvlm.training.evaluation import PeriodicEvaluation
from locvlm.training.faults.loss_guard import LossGuard, without_targets
from locvlm.training.faults.preemption import Preemption
from locvlm.training.faults.watchdog import Watchdog
from locvlm.training.throughput import StepMeter

logger = logging.getLogger(__name__)


class LocVLMTrainer(Trainer):
    """Trains `model` on `loader`'s steps.

    Args:
        loader: micro-batches whose keys are the keywords of `LocVLM.forward`, with `num_targets` in each.
        weights: how this stage writes and reads weights.
        metrics: called on the main process with every logged row.
        evaluation: scores the model during training.
        optimizer: AdamW as `args` says, or Muon for the matrices of adapter and blocks.
        faults: what to do when something goes wrong.

    Raises:
        ValueError: for Muon under DeepSpeed, which hands an optimizer pieces of matrices.
    """

    loss_is_scaled_for_ga = True  # by num_targets

    def __init__(
        self,
        model: LocVLM,
        args: TrainingArguments,
        *,
        loader: StepLoader,
        weights: checkpoint.Weights,
        metrics: Callable[..., None],
        evaluation: PeriodicEvaluation | None = None,
        optimizer: OptimizerConfig | None = None,
        faults: FaultConfig | None = None,
    ) -> None:
        self._optimizer_config = optimizer or OptimizerConfig()
        self._faults = faults or FaultConfig()
        if self._optimizer_config.matrices == "muon" and args.deepspeed:
            raise ValueError(
                "optimizer.matrices is muon, but training.deepspeed is set: ZeRO steps flattened pieces of "
                "matrices. Leave one of the two out"
            )
        args.max_steps = loader.num_steps
        self.loader = loader
        self.weights = weights
        self._metrics = metrics
        self.core = model  # `self.model`, of which the library does not know the class
        self._run = self._checkpoint_root = Path(str(args.output_dir))
        self._last_logged = self._next_line = 0
        self.meter = StepMeter()
        self.preemption = Preemption(self._run)
        self._guard = LossGuard(self._faults, run=self._run, ids_of_step=loader.ids_of_step)
        watchdog = Watchdog(self._run, stalled_after_s=self._faults.stalled_after_s)
        callbacks: list[TrainerCallback] = [_EpochCounter(loader), self.preemption, watchdog]
        if evaluation is not None:
            evaluation.trainer = self
            callbacks.append(evaluation)
        super().__init__(model=model, args=args, callbacks=callbacks)
        self.remove_callback(PrinterCallback)  # prints to the terminal; the run logs instead

    # ---- optimizer

    def create_optimizer(self, model=None):  # type: ignore[no-untyped-def]
        """The library's, unless matrices are to have Muon."""
        config, args = self._optimizer_config, self.args
        if config.matrices == "adamw" or self.optimizer is not None:
            return super().create_optimizer() if model is None else super().create_optimizer(model)
        groups = muon_groups(
            self.core,
            learning_rate=args.learning_rate,
            muon_learning_rate=config.muon_learning_rate or args.learning_rate,
            weight_decay=args.weight_decay,
        )
        self.optimizer = Muon(groups, betas=(args.adam_beta1, args.adam_beta2), eps=args.adam_epsilon)
        return self.optimizer

    # ---- batches, loss, log

    def get_train_dataloader(self) -> Any:
        """The loader itself, all epochs in one: it deals to ranks and seeks on its own."""
        return self.loader

    def get_batch_samples(self, epoch_iterator, num_batches, device):  # type: ignore[no-untyped-def]
        """One step's micro-batches of this rank, counted while they are still on the CPU, and its targets.

        The library divides by the accumulation steps if it is told no count, in versions before it asked for
        `loss_is_scaled_for_ga`.
        """
        start = time.perf_counter()
        batches = list(itertools.islice(epoch_iterator, num_batches))
        self.meter.count(batches, wait_s=time.perf_counter() - start)
        return batches, batches[0]["num_targets"] if batches else None

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        prepared = super()._prepare_inputs(inputs)
        weights = inputs["target_weights"]
        prepared["target_weights"] = weights.to(self.args.device)  # DeepSpeed would have them in bf16
        return prepared

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        """This micro-batch's share of the step's mean, times the ranks over which gradients are averaged."""
        outputs = model(**inputs)
        if self._guard.is_on:
            judgement = self._guard.judge(outputs.loss, inputs)
            if judgement.problem:
                self._guard.report(judgement, step=self.state.global_step)
                outputs = model(**without_targets(inputs))  # every parameter takes part in it, all with 0
        loss = outputs.loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: the library's estimate walks over all parameters in every pass, and knows no packed rows."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the throughput to a training row, and hand it to `metrics` beside the library's reporters."""
        if "loss" in logs:
            logs.update(self.meter.report(num_steps=self.state.global_step - self._last_logged))
            self._last_logged = self.state.global_step
        super().log(logs, start_time)
        if "loss" in logs and self.is_world_process_zero():
            row = {"lr" if name == "learning_rate" else name: value for name, value in logs.items()}
            self._metrics(step=self.state.global_step, **row)
            self._log_progress(row)

    def _log_progress(self, row: dict[str, float]) -> None:
        """About twenty lines in a run without a progress bar."""
        step, num_steps = self.state.global_step, self.state.max_steps
        if self.args.disable_tqdm and (step >= self._next_line or step == num_steps):
            self._next_line = step + max(1, num_steps // 20)
            words = "step %d of %d: loss %.4f, %.0f tokens/s, waited for data %.0f%%"
            waited = 100 * row["data_wait_s"] / row["step_s"]
            logger.info(words, step, num_steps, row["loss"], row["tokens_per_s"], waited)

    # ---- checkpoints

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):  # type: ignore[no-untyped-def]
        # DeepSpeed's part of a checkpoint lacks what is frozen; the library would load it strictly
        resume_plain = None if self.is_deepspeed_enabled else resume_from_checkpoint
        model, train_dataloader = super()._prepare_for_training(max_steps, train_dataloader, resume_plain)
        if resume_from_checkpoint is not None:
            folder = Path(resume_from_checkpoint)
            if self.is_deepspeed_enabled:
                checkpoint.load_deepspeed(self.model_wrapped, folder)
                self._load_optimizer_and_scheduler(resume_from_checkpoint)
            train_dataloader.load_state_dict(checkpoint.describe(folder).data)
        self._last_logged = self.state.global_step
        self.meter.restart()
        return model, train_dataloader

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.weights.load(self.core, Path(resume_from_checkpoint))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._checkpoint_root)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside its place, then move it there: it is complete or not there at all."""
        run, name = self._run, f"checkpoint-{self.state.global_step}"
        with self.meter.paused(), checkpoint.explaining_failure(run, name):
            self._checkpoint_root = run / checkpoint.STAGING
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._checkpoint_root = run
            self._publish(name, lambda folder: checkpoint.write_description(folder, self._description()))
            if self.args.should_save:
                rotate_checkpoints(str(run), save_total_limit=self.args.save_total_limit)
                checkpoint.keep_within(run, max_gb=self._faults.max_checkpoints_gb)

    def save_complete(self, name: str, add: Callable[[Path], None] = lambda folder: None) -> None:
        """Write the weights as RUN/NAME, which appears complete. Every rank has to call this.

        `add` may write more into the folder; called on the main process.
        """
        with checkpoint.explaining_failure(self._run, name):
            self.save_model(str(self._run / checkpoint.STAGING / name))
            self._publish(name, add)

    def _publish(self, name: str, add: Callable[[Path], None]) -> None:
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            add(self._run / checkpoint.STAGING / name)
            checkpoint.publish(self._run, name)
        self.accelerator.wait_for_everyone()

    def _description(self) -> checkpoint.Description:
        step = self.state.global_step
        return checkpoint.Description(
            step=step,
            stage=self.weights.stage,
            num_ranks=self.args.world_size,
            zero_stage=self.zero_stage,
            data=self.loader.state_dict(step),
        )

    def prepare_resume(self, folder: Path) -> int:
        """The step at which this run goes on from a checkpoint. Every rank has to call this.

        Raises:
            ValueError: if it cannot.
        """
        found = checkpoint.require_resumable(folder, stage=self.weights.stage, zero_stage=self.zero_stage)
        if self.is_deepspeed_enabled and found.num_ranks != self.args.world_size:
            universal.convert(folder)
            universal.read_universal(self.accelerator.state.deepspeed_plugin.deepspeed_config)
        return found.step

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_deepspeed_enabled:
            from accelerate.utils import DeepSpeedSchedulerWrapper  # there only if DeepSpeed is

            engine: Any = self.model_wrapped
            engine.save_checkpoint(output_dir, exclude_frozen_parameters=True)
            scheduler: Any = self.lr_scheduler  # DeepSpeed saves its own kind only
            if self.args.should_save and not isinstance(scheduler, DeepSpeedSchedulerWrapper):
                torch.save(scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights into a folder. Every rank has to call this; the main process writes."""
        folder = Path(output_dir) if output_dir else self._run
        self.weights.save(self.core, folder, lambda: self.accelerator.get_state_dict(self.model_wrapped))

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's ZeRO stage; 0 without DeepSpeed."""
        return self.accelerator.state.deepspeed_plugin.zero_stage if self.is_deepspeed_enabled else 0


class _EpochCounter(TrainerCallback):
    """Sets `state.epoch` from the step: Trainer takes the run for one epoch that begins where it resumed."""

    def __init__(self, loader: StepLoader) -> None:
        self._loader = loader

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        steps_per_epoch = self._loader.steps_per_epoch
        state.epoch = state.global_step / steps_per_epoch
        if int(state.epoch) > int((state.global_step - 1) / steps_per_epoch):
            control.should_save |= args.save_strategy == SaveStrategy.EPOCH
            control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
