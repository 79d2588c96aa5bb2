"""Pooled features ahead of training: what they depend on in a run, and the loop that makes them."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlavaConfig

from locvlm.data.clips import Frames, clip_pixels
from locvlm.data.feature_cache import FeatureCache, FeatureWriter, Pooled
from locvlm.data.feature_key import FeatureSettings, content_key
from locvlm.data.mixture import Source
from locvlm.data.objective_filter import open_source
from locvlm.data.video import UnreadableVideo
from locvlm.geometry import FrameMode
from locvlm.io import Ledger
from locvlm.model.locvlm import LocVLM
from locvlm.model.tree_attention import TREE_ATTENTION
from locvlm.model.video import pool_clip
from locvlm.model.weight_files import read_weights, require_fitting, shapes_of
from locvlm.progress import progress
from locvlm.spec import VisionSpec
from locvlm.training.arguments import ModelConfig

logger = logging.getLogger(__name__)

_TOWER = "vision_tower."


# ---- what features depend on


@dataclass(frozen=True, slots=True)
class Precision:
    """In what a run holds weights, and in what it multiplies where that is another."""

    dtype: torch.dtype
    autocast: torch.dtype | None

    @classmethod
    def of(cls, *, deepspeed: Any, bf16: bool, fp16: bool) -> "Precision":
        """From the TrainingArguments of these names. Under DeepSpeed weights have the dtype themselves."""
        half = torch.bfloat16 if bf16 else torch.float16 if fp16 else None
        return cls(half or torch.float32, None) if deepspeed else cls(torch.float32, half)


def feature_settings(model: LocVLM, config: ModelConfig, precision: Precision) -> FeatureSettings:
    """What the features of this model's videos depend on.

    The tower's weights are read from `config.checkpoint`: they are frozen, and the model's own may be spread
    over ranks.
    """
    pooling, spec = model.video, model.spec
    if pooling is None:
        raise ValueError("this model was made for images alone; set video.num_frames")
    layer: Any = model.config.vision_feature_layer
    vision: Any = model.config.vision_config
    return FeatureSettings(
        tower=_digest(tower_weights(config.checkpoint), vision.to_dict(), precision.dtype),
        layer=int(layer),
        dtype=_name_of(precision.dtype),
        autocast=_name_of(precision.autocast) if precision.autocast is not None else "",
        attention=_attention_of_tower(config),
        num_frames=pooling.num_frames,
        order=pooling.order,
        pad_frames=pooling.pad_frames,
        frame=model.contract.frame,
        canvas=spec.canvas,
        image_mean=spec.image_mean,
        image_std=spec.image_std,
    )


def tower_weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """The tower's weights in a checkpoint, by their names in `CLIPVisionModel`, not read yet."""
    weights = read_weights(checkpoint)
    found = {name.partition(_TOWER)[2]: weight for name, weight in weights.items() if _TOWER in name}
    return {
        name.removeprefix("vision_model."): weight
        for name, weight in found.items()
        if weight.is_floating_point()  # older files hold the numbers of positions, too
    }


def _digest(weights: dict[str, torch.Tensor], config: dict[str, Any], dtype: torch.dtype) -> str:
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "patch_size", "hidden_act")
    digest = hashlib.sha256(repr([config.get(name) for name in (*sizes, "layer_norm_eps")]).encode())
    for name in sorted(weights):
        weight = weights[name].to(dtype).contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _attention_of_tower(config: ModelConfig) -> str:
    """`tree` is the language model's alone; in the tower it is sdpa."""
    name = config.attn_implementation
    return "sdpa" if name == TREE_ATTENTION else name


# ---- the tower by itself


def load_tower_alone(config: ModelConfig, dtype: torch.dtype) -> LocVLM:
    """The starting checkpoint with its tower and settings, and next to nothing for a language model.

    Raises:
        ValueError: if the folder's weights do not fit its tower.
    """
    llava = LlavaConfig.from_pretrained(config.checkpoint)
    text: Any = llava.text_config
    llava.text_config = LlamaConfig(
        hidden_size=text.hidden_size, num_attention_heads=1, num_key_value_heads=1, num_hidden_layers=0,
        intermediate_size=1, vocab_size=1, pad_token_id=0,
    )  # fmt: skip
    llava.image_token_id = 0
    llava._attn_implementation = _attention_of_tower(config)
    model = LocVLM(llava)
    weights, tower = tower_weights(config.checkpoint), model.model.vision_tower
    require_fitting(shapes_of(weights), shapes_of(tower.state_dict()), where=config.checkpoint)
    tower.load_state_dict(weights)
    model.requires_grad_(False)
    alone: LocVLM = nn.Module.to(model, dtype).eval()  # its own `to` has no known type
    return alone


# ---- making them


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureJob:
    """How features are made."""

    model: LocVLM  # or its tower alone
    settings: FeatureSettings
    autocast: torch.dtype | None
    workers: int = 0  # processes that decode
    videos_per_file: int = 64


def videos_of(sources: Sequence[Source]) -> list[str]:
    """The paths of all videos that the sources speak of, each once; records that cannot be read are left out:
    training counts them."""
    paths: dict[str, None] = {}
    for dataset in [open_source(source, takes_videos=True) for source in sources]:
        for index in range(len(dataset)):
            try:
                video = dataset[index].video
            except ValueError:
                continue
            if video is not None:
                paths[video] = None
    return list(paths)


def make_features(job: FeatureJob, paths: Sequence[str], folder: Path) -> Ledger:
    """Write the features that `folder` lacks of these videos; what was done and what could not be read."""
    settings, ledger = job.settings, Ledger("videos")
    cache = FeatureCache(folder, settings)
    if num_removed := cache.remove_damaged():
        logger.warning("removed %d damaged files from %s; their features are made again", num_removed, folder)
    writer = FeatureWriter(folder, settings, videos_per_file=job.videos_per_file)
    clips = _Clips(paths, cache, settings.frame, job.model.spec)
    loader: Any = DataLoader(clips, batch_size=None, num_workers=job.workers, collate_fn=_unchanged)
    made: set[str] = set()
    num_there = 0
    for clip in progress(loader, what="features", total=len(paths), unit="video"):
        if clip.problem:
            ledger.drop(clip.path, "unreadable video", clip.problem)
            continue
        ledger.keep()
        num_there += clip.frames is None
        if clip.frames is None or clip.key in made:
            continue
        writer.add(Pooled(key=clip.key, features=pool(job, clip.frames), size=clip.frames.size))
        made.add(clip.key)
    writer.close()
    logger.info("%s: %d videos made, %d were there, %s", folder, len(made), num_there, ledger.summary())
    return ledger


def pool(job: FeatureJob, frames: Frames) -> torch.Tensor:
    """The features (S, D) of a clip, on the CPU, as the model makes them in training."""
    device = job.model.device.type
    with torch.autocast(device, dtype=job.autocast, enabled=job.autocast is not None):
        return pool_clip(job.model, torch.from_numpy(frames.normalised())).cpu()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clip:
    path: str
    key: str = ""
    frames: Frames | None = None  # None: its features are there
    problem: str = ""


class _Clips(Dataset[_Clip]):
    """Decodes, in workers."""

    def __init__(
        self, paths: Sequence[str], cache: FeatureCache, frame: FrameMode, vision: VisionSpec
    ) -> None:
        self.paths, self.cache, self.frame, self.vision = paths, cache, frame, vision

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> _Clip:
        path = self.paths[index]
        try:
            key = content_key(path)
            if key in self.cache:
                return _Clip(path=path, key=key)
            frames = clip_pixels(path, mode=self.frame, vision=self.vision)
        except UnreadableVideo as error:
            return _Clip(path=path, problem=str(error))
        return _Clip(path=path, key=key, frames=frames)


def _unchanged(item: Any) -> Any:
    return item
