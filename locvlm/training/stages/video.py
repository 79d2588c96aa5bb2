"""What stage 3 has beside the other stages: how videos are seen, and their features."""

import logging
from dataclasses import asdict

import torch
from transformers import TrainingArguments

from locvlm.config_text import to_dict
from locvlm.data.feature_cache import FeatureCache
from locvlm.model.locvlm import LocVLM
from locvlm.model.video import VideoPooling
from locvlm.training.arguments import Stage3Config, VideoConfig, check_training
from locvlm.training.stages.model import settle_contract
from locvlm.training.video_features import FeatureJob, Precision, feature_settings, load_tower_alone

logger = logging.getLogger(__name__)

_TRAINED_KEY = "trained_on_videos"  # in config.locvlm: how they are seen can no longer be chosen


def settle_video(model: LocVLM, video: VideoConfig, *, checkpoint_name: str) -> None:
    """Write into the model's config how it sees videos: chosen freely before training on them, then fixed.

    Raises:
        ValueError: if the checkpoint was trained to see them otherwise, or neither it nor `video` says how
            many frames there are.
    """
    saved = dict(getattr(model.config, "locvlm", None) or {})
    stored = saved.get("video") or {}
    chosen = {name: value for name, value in to_dict(video).items() if value is not None}
    if "num_frames" not in {**stored, **chosen}:
        raise ValueError(
            f"{checkpoint_name} does not say by how many frames it sees a video (locvlm.video in "
            f"config.json); set video.num_frames, such as 100 (LocVLM-Vid-B) or 8 (Vid-B+)"
        )
    pooling = VideoPooling.from_dict({**stored, **chosen})
    if stored and saved.get(_TRAINED_KEY) and pooling != (before := VideoPooling.from_dict(stored)):
        raise ValueError(
            f"{checkpoint_name} was trained to see videos otherwise: {before} there, {pooling} here; leave "
            f"video out, or start from the image model that it was trained from"
        )
    model.config.locvlm = {**saved, "video": asdict(pooling), _TRAINED_KEY: True}
    logger.info("%s: %d tokens a video", pooling, model.spec.num_video_tokens)


def open_features(config: Stage3Config, model: LocVLM, args: TrainingArguments) -> FeatureCache | None:
    """The features of `data.video_cache` that are this run's; None if the run has no such folder.

    Raises:
        ValueError: if the folder holds none for this run's settings, naming what differs in those that it
            holds, and missing ones are refused.
    """
    if config.data.video_cache is None:
        return None
    precision = Precision.of(deepspeed=args.deepspeed, bf16=args.bf16, fp16=args.fp16)
    settings = feature_settings(model, config.model, precision)
    cache = FeatureCache(config.data.video_cache, settings)
    logger.info("%s: features of %d videos", cache.folder, len(cache))
    if not len(cache):
        found = "; or ".join(cache.others()) or "no features at all"
        problem = (
            f"data.video_cache {config.data.video_cache} has no features that this run could use. It holds: "
            f"{found}. Make them with scripts/cache_video_features.py"
        )
        if config.data.video_cache_missing == "refuse":
            raise ValueError(problem)
        logger.warning("%s; until then they are computed in every epoch", problem)
    return cache


def prepare_features(config: Stage3Config, *, device: str, workers: int, videos_per_file: int) -> FeatureJob:
    """What makes the features that `open_features` of this configuration looks for.

    Args:
        workers: processes that decode.

    Raises:
        ValueError: as `settle_video` and `settle_contract`.
    """
    training = check_training(config.training)
    names = ("deepspeed", "bf16", "fp16")
    precision = Precision.of(**{name: training.get(name) or False for name in names})
    model = load_tower_alone(config.model, precision.dtype)
    settle_contract(model, config.coords, checkpoint_name=config.model.checkpoint)
    settle_video(model, config.video, checkpoint_name=config.model.checkpoint)
    settings = feature_settings(model, config.model, precision)
    torch.nn.Module.to(model, device)
    return FeatureJob(
        model=model,
        settings=settings,
        autocast=precision.autocast,
        workers=workers,
        videos_per_file=videos_per_file,
    )
