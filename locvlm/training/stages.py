"""The steps that stages share, in the order in which a stage takes them: start, model, data, trainer, end.

Each is a function from what it needs to what comes out; the programs of train/ are the recipes.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from locvlm import dist
from locvlm.config import read_yaml
from locvlm.config_text import to_dict
from locvlm.coords.contract import CoordinateContract, require_same
from locvlm.data.clips import clip_pixels
from locvlm.data.collate import Visual
from locvlm.data.feature_cache import FeatureCache
from locvlm.data.image import read_pixels
from locvlm.data.loader import StepBuilder, StepLoader, StepShape, open_sources
from locvlm.data.packing import PackingConfig
from locvlm.data.prompt import chat_template
from locvlm.data.quarantine import Quarantine
from locvlm.geometry import Size
from locvlm.io import write_json
from locvlm.log import setup_logging
from locvlm.model.freeze import FreezeRow
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings, apply_lora
from locvlm.objectives.render import render_record
from locvlm.records import Record, Sample
from locvlm.runs import RunFolder, start_run
from locvlm.spec import VisionSpec
from locvlm.training import checkpoint, kernels
from locvlm.training.arguments import (
    CoordsConfig,
    DataConfig,
    FaultConfig,
    ModelConfig,
    OptimizerConfig,
    Stage1Config,
    Stage2Config,
    Stage3Config,
    training_arguments,
)
from locvlm.training.evaluation import PeriodicEvaluation
from locvlm.training.preview import describe_batch
from locvlm.training.trainer import LocVLMTrainer

logger = logging.getLogger(__name__)

FINAL = "final"  # folder of a run that holds what the stage was for; it appears last
_TRAINED_KEY = "trained_on_locations"  # in config.locvlm: the contract can no longer be chosen
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


# ---- start


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


# ---- model


def open_model(
    config: ModelConfig, coords: CoordsConfig, args: TrainingArguments, *, conversation: str | None = None
) -> LocVLM:
    """The starting checkpoint, its coordinate contract settled; under ZeRO-3 spread over ranks as it is read.

    Raises:
        ValueError: if the folder holds no model, or one trained with another codec, frame or location; or
            if this machine cannot train with the attention that is asked for.
    """
    if not (Path(config.checkpoint) / "config.json").is_file():
        raise ValueError(
            f"model.checkpoint: no model in {config.checkpoint!r}; make one with scripts/init_checkpoint.py"
        )
    kernels.prepare(config)
    # DeepSpeed keeps its own fp32 copy of what trains; without it, autocast needs fp32 weights
    dtype = torch.bfloat16 if args.deepspeed and args.bf16 else torch.float32
    model = LocVLM.from_pretrained(
        config.checkpoint,
        dtype=dtype,
        attn_implementation=config.attn_implementation,
        use_safetensors=True,
        quantization_config=kernels.quantization(config),
    )
    settle_contract(model, coords, checkpoint_name=config.checkpoint)
    if conversation is not None:
        model.config.locvlm = {**model.config.locvlm, "conversation": conversation, _TRAINED_KEY: True}
    logger.info("%s; %s", config.checkpoint, model.contract)
    return model


def choose_parts(model: LocVLM, lora: LoraSettings | None, *, seed: int) -> tuple[str, ...]:
    """Adapter and language model, for `freeze`; or instead of that LoRA layers, which come in here."""
    if lora is None:
        return ("adapter", "llm")
    apply_lora(model, lora, seed=seed)
    return ("adapter", "lora")


def settle_contract(model: LocVLM, coords: CoordsConfig, *, checkpoint_name: str) -> None:
    """Write the run's coordinate contract into the model's config: chosen freely before training, then fixed.

    Raises:
        ValueError: if the checkpoint has learned another one, or neither it nor `coords` says one.
    """
    saved = dict(getattr(model.config, "locvlm", None) or {})
    chosen = {name: value for name, value in to_dict(coords).items() if value is not None}
    stored = saved.get("contract") or {}
    if not stored:
        missing = [name for name in ("codec", "frame", "location") if name not in chosen]
        if missing:
            raise ValueError(
                f"{checkpoint_name} does not say how it writes locations (locvlm.contract in config.json); "
                f"set {', '.join(f'coords.{name}' for name in missing)}"
            )
    sizes = {"canvas": model.spec.canvas, "patch": model.spec.patch}
    contract = CoordinateContract.from_dict({**stored, **chosen, **sizes})
    if stored and saved.get(_TRAINED_KEY):
        try:
            require_same(contract, CoordinateContract.from_dict(stored))
        except ValueError as error:
            raise ValueError(f"{checkpoint_name} was trained with other coordinates: {error}") from error
    model.config.locvlm = {**saved, "contract": contract.to_dict()}


def choose_weights(
    config: Stage2Config | Stage3Config, tokenizer: PreTrainedTokenizerBase
) -> checkpoint.Weights:
    """How a stage writes and reads what `choose_parts` lets train."""
    stage: checkpoint.Stage = "stage3" if isinstance(config, Stage3Config) else "stage2"
    if config.lora is not None:
        return checkpoint.LoraWeights(config.lora, base=config.model.checkpoint, stage=stage)
    return checkpoint.FolderWeights(tokenizer, chat_template(config.data.conversation), stage=stage)


# ---- data


def open_steps(
    data: DataConfig,
    packing: PackingConfig,
    args: TrainingArguments,
    *,
    model: LocVLM,
    tokenizer: PreTrainedTokenizerBase,
    takes_videos: bool = False,
    features: FeatureCache | None = None,
) -> StepLoader:
    """This rank's micro-batches of the whole run.

    Videos are taken by stage 3 alone; their pooled features are read from `features`, where they are there.

    Raises:
        ValueError: for a file that is missing, empty or malformed, rows longer than the model's context, or
            a tokenizer that is not the language model's.
    """
    if packing.max_row_tokens > (limit := model.text_spec.max_position):
        raise ValueError(
            f"packing.max_row_tokens is {packing.max_row_tokens}, more than the model's {limit} positions"
        )
    num_rows = model.config.get_text_config().vocab_size
    if len(tokenizer) > num_rows:
        raise ValueError(
            f"the checkpoint's tokenizer has {len(tokenizer)} tokens, its language model only {num_rows} "
            f"embedding rows: they do not belong together. Make the checkpoint again by "
            f"scripts/init_checkpoint.py"
        )
    datasets, mixture = open_sources(
        data.sources,
        seed=data.seed,
        conversations_per_step=data.conversations_per_step,
        takes_videos=takes_videos,
    )
    builder = StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=Renderer(model.contract, data),
        open_pixels=PixelOpener(
            model.contract, model.spec, features, refuses_missing=data.video_cache_missing == "refuse"
        ),
        tokenizer=tokenizer,
        conversation=data.conversation,
        vision=model.spec,
        packing=packing,
        shape=StepShape(
            world_size=args.world_size,
            accumulation=args.gradient_accumulation_steps,
            rows_per_pass=args.per_device_train_batch_size,
        ),
    )
    has_steps = args.max_steps > 0
    return StepLoader(
        builder,
        rank=args.process_index,
        num_steps=args.max_steps if has_steps else None,
        epochs=None if has_steps else args.num_train_epochs,
        num_workers=data.num_workers,
        max_dropped_fraction=data.max_dropped_fraction,
        quarantine=Quarantine(
            Path(str(args.output_dir)), rank=args.process_index, world_size=args.world_size
        ),
    )


@dataclass(frozen=True, slots=True)
class Renderer:
    """Record -> text, mirrored or not; the same for the same (record, epoch) whenever it is asked for."""

    contract: CoordinateContract
    data: DataConfig

    def __call__(self, record: Record, epoch: int) -> Sample:
        seed, contract = self.data.seed, self.contract
        flip = random.Random(f"{seed}/{epoch}/{record.id}/flip").random() < self.data.flip_probability
        return render_record(record, contract, seed=seed, epoch=epoch, flip=flip, cut_policy=self.data.cut)


@dataclass(frozen=True, slots=True)
class PixelOpener:
    """Sample -> what is shown, by the steps whose frame its coordinates are in.

    An image's normalised pixels (3, canvas, canvas); a video's frames, or its pooled features where
    `features` holds them.
    """

    contract: CoordinateContract
    vision: VisionSpec
    features: FeatureCache | None = None
    refuses_missing: bool = False  # features, where some are there

    def __call__(self, sample: Sample) -> Visual:
        size = (sample.width, sample.height)
        if sample.video is not None:
            return self._open_video(sample.video, size)
        return read_pixels(
            str(sample.image), mode=self.contract.frame, vision=self.vision, size=size, flip=sample.flip
        )

    def _open_video(self, path: str, size: Size) -> Visual:
        if self.features is not None and (found := self.features.find(path, size=size)) is not None:
            return found
        frames = clip_pixels(path, mode=self.contract.frame, vision=self.vision, size=size)
        if self.features is not None and self.refuses_missing:
            raise ValueError(
                f"{self.features.folder} has no features of {path}, as the file is now; make them with "
                f"scripts/cache_video_features.py, or set data.video_cache_missing to compute"
            )
        return frames


# ---- trainer and end


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
