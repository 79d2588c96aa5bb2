"""The data of a stage: sources opened, rendered, packed and dealt to this rank."""

import random
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase, TrainingArguments

from locvlm.coords.contract import CoordinateContract
from locvlm.data.clips import clip_pixels
from locvlm.data.collate import Visual
from locvlm.data.feature_cache import FeatureCache
from locvlm.data.image import read_pixels
from locvlm.data.loader import StepLoader
from locvlm.data.packing import PackingConfig
from locvlm.data.quarantine import Quarantine
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.geometry import Size
from locvlm.model.locvlm import LocVLM
from locvlm.objectives.render import render_record
from locvlm.records import Record, Sample
from locvlm.spec import VisionSpec
from locvlm.training.arguments import DataConfig


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
