"""A step of our trainer against the same step written out bare, one after the other in one process."""

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler

from locvlm.benchmarks.gpu.batches import conversations_per_row, draw_conversations, make_step
from locvlm.benchmarks.growth.steps import trained_model
from locvlm.benchmarks.peers.workload import CONVERSATION, ModelSizes
from locvlm.benchmarks.turns import Turns
from locvlm.data.loader import StepLoader
from locvlm.data.mixture import Source
from locvlm.data.tokenize import load_tokenizer
from locvlm.model.locvlm import LocVLM
from locvlm.runs import start_run
from locvlm.training.arguments import (
    DataConfig,
    ModelConfig,
    ProfileConfig,
    Stage2Config,
    training_arguments,
)
from locvlm.training.profiling.observe import observe
from locvlm.training.stages.model import choose_weights
from locvlm.training.stages.run import make_trainer
from locvlm.world.backbones import WEIGHTS

OURS, BARE = "trainer", "bare loop"
Step = Sequence[dict[str, Any]]  # its micro-batches


def compare(
    sizes: ModelSizes, *, images: int, pairs: int, passes: int, num_steps: int, bf16: bool
) -> tuple[Turns, float]:
    """Seconds of every step but the first, and how far apart the weights are afterwards.

    That is the norm of their difference over that of what training changed.
    """
    model = trained_model(sizes)
    start = copy.deepcopy(model)
    steps = list(_steps(model, images=images, pairs=pairs, passes=passes, number=num_steps))
    with tempfile.TemporaryDirectory() as folder:
        config = _config(Path(folder), images=images, passes=len(steps[0]), num_steps=num_steps, bf16=bf16)
        args = training_arguments(config.training)
        bare = BareLoop(copy.deepcopy(model), steps, args)
        run = start_run(folder, config)
        trainer = make_trainer(
            model,
            args,
            loader=PreparedSteps(steps),
            weights=choose_weights(config, load_tokenizer(WEIGHTS)),
            run=run,
        )
        observe(trainer, ProfileConfig(), run=run.path)
        trainer.add_callback(bare)  # the last: what others do at the end of a step is the trainer's
        trainer.train()
    turns = Turns({OURS: bare.others_s[1:], BARE: bare.seconds[1:]})
    return turns, _distance(bare.model, model) / _distance(start, model)


class PreparedSteps(StepLoader):
    """Steps that are in memory already, so that no data is waited for."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.num_steps = len(steps)
        self.quarantine = None

    def __len__(self) -> int:
        return sum(map(len, self.steps))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in self.steps:
            yield from step

    @property
    def steps_per_epoch(self) -> float:
        """All of them."""
        return float(self.num_steps)

    def ids_of_step(self, step: int) -> list[str]:
        """They have none."""
        return []


class BareLoop(TrainerCallback):
    """Takes each step of the trainer again: same batch, optimizer, schedule and clipping, another model.

    `seconds` are its own, `others_s` those from the end of one of its steps to the beginning of the next:
    the trainer's, with all that it does around a step.
    """

    def __init__(self, model: LocVLM, steps: Sequence[Step], args: TrainingArguments) -> None:
        self.model, self._steps, self._args = model, steps, args
        self._trained = [p for p in model.parameters() if p.requires_grad]
        kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
        self._optimizer = kind(self._trained, weight_decay=args.weight_decay, **options)
        warmup = args.get_warmup_steps(len(steps))
        self._schedule = get_scheduler(args.lr_scheduler_type, self._optimizer, warmup, len(steps))
        self.seconds: list[float] = []
        self.others_s: list[float] = []
        self._mark = 0.0

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """From here on."""
        self._mark = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Ours now."""
        start = time.perf_counter()
        self.others_s.append(start - self._mark)
        self._take(self._steps[state.global_step - 1])
        self._mark = time.perf_counter()
        self.seconds.append(self._mark - start)

    def _take(self, step: Step) -> None:
        for batch in step:
            with torch.autocast("cpu", torch.bfloat16) if self._args.bf16 else nullcontext():
                loss = self.model(**batch).loss
            loss.backward()
        nn.utils.clip_grad_norm_(self._trained, self._args.max_grad_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()


def _distance(a: LocVLM, b: LocVLM) -> float:
    """The norm of the difference of all weights."""
    squares = [
        (x.detach() - y.detach()).double().square().sum()
        for x, y in zip(a.parameters(), b.parameters(), strict=True)
    ]
    return float(torch.stack(squares).sum().sqrt())


def _steps(model: LocVLM, *, images: int, pairs: int, passes: int, number: int) -> Iterator[Step]:
    """Of packed rows, in at most so many passes."""
    drawn = draw_conversations(model.config, stage="stage2", number=images, pairs=pairs)
    rows = -(-images // conversations_per_row(drawn, model.text_spec.max_position))
    step = make_step(
        drawn,
        mode="shared_prefix",
        row_tokens=model.text_spec.max_position,
        rows_per_pass=-(-rows // passes),
    )
    for _ in range(number):
        yield step


def _config(folder: Path, *, images: int, passes: int, num_steps: int, bf16: bool) -> Stage2Config:
    return Stage2Config(
        model=ModelConfig(checkpoint="random weights", attn_implementation="tree"),
        data=DataConfig(
            sources=(Source(name="prepared", path="in memory"),),
            conversations_per_step=images,
            conversation=CONVERSATION,
        ),
        training={
            "output_dir": str(folder),
            "max_steps": num_steps,
            "learning_rate": 1e-4,
            "max_grad_norm": 1.0,
            "gradient_accumulation_steps": passes,
            "bf16": bf16,
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 10,
        },
    )
