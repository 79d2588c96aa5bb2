"""Has a trainer count its operations and, on demand, take some of its steps apart."""

import logging
from functools import partial
from pathlib import Path

import torch

from locvlm import dist
from locvlm.training.arguments import ProfileConfig
from locvlm.training.checkpoint import AdapterWeights
from locvlm.training.plan.flops import useful_flops
from locvlm.training.plan.machines import peak_flops_of
from locvlm.training.plan.shapes import Scope, shape_of
from locvlm.training.profiling.profiler import StepProfiler
from locvlm.training.trainer import LocVLMTrainer

logger = logging.getLogger(__name__)


def observe(trainer: LocVLMTrainer, config: ProfileConfig, *, run: Path) -> None:
    """Before training. Every rank counts, the main process looks.

    Raises:
        ValueError: if the run has too few steps for the profile.
    """
    if config.num_steps > trainer.loader.num_steps:
        raise ValueError(
            f"profile.steps {config.steps} after {config.after} takes {config.num_steps} steps, the run has "
            f"{trainer.loader.num_steps}: set fewer, or leave profile out"
        )
    model = trainer.core.config
    if isinstance(model.vision_feature_layer, int):  # the arithmetic knows no other towers
        weights = trainer.weights
        is_alone = isinstance(weights, AdapterWeights)
        scope = Scope(stage=weights.stage, lora=weights.lora, is_adapter_alone=is_alone)
        flops_of = partial(useful_flops, shape_of(model), scope=scope)
        trainer.meter.count_flops(flops_of, peak_flops=_peak(config))
    if config.steps and dist.is_main():
        profiler = StepProfiler(config, run=run)
        profiler.trainer = trainer
        # the first: what others do at the end of a step is not the step's
        trainer.callback_handler.callbacks.insert(0, profiler)


def _peak(config: ProfileConfig) -> float | None:
    """As stated, or as this GPU is known to have it."""
    if config.peak_tflops:
        return config.peak_tflops * 1e12
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    peak = peak_flops_of(name)
    if peak is None:
        logger.info("no peak is known for %s: to have mfu logged, state profile.peak_tflops", name)
    return peak
