"""What a model sees of a video, before the adapter (paper section 3.1, appendix D).

    frames (n, 3, H, W) --frozen tower, layer -2--> patches (n, P, D)
        mean over each frame's patches -> n temporal tokens
        mean of each patch over the frames -> P spatial tokens

A video is n + P tokens, [temporal ; spatial]. The paper lists spatial tokens first, Video-ChatGPT's code the
temporal ones, which it fills up with zeros to 100; order and filling are the checkpoint's to say.

A *visual* of a batch is an image or a video. Frames go through the tower in chunks of one video, so memory is
bounded and a video's features do not depend on what is beside it: bit for bit what a cache of them holds.
"""

# V visuals, N images and frames of all, n frames of a video, P patches, D tower width, T tokens of a visual

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from locvlm.config import convert
from locvlm.dist import max_over_ranks
from locvlm.model.vision import patch_features

TokenOrder = Literal["temporal_spatial", "spatial_temporal"]
FRAMES_PER_CHUNK = 16  # of a video in one pass of the tower: ViT-L at 224 needs 0.1 GB for them in bf16
CACHED = -1  # in `frames_per_visual`: a video whose pooled features are given
NO_VIDEO = (
    "this model was made for images alone: its config.json has no locvlm.video; show it the middle frame of "
    "a video (tasks: `shows: frame`), or train it on videos with train/stage3.py"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPooling:
    """How a checkpoint sees videos: `config.locvlm["video"]` holds these fields.

    Raises:
        ValueError: if a video has no frames, or more than its temporal tokens are filled up to.
    """

    num_frames: int  # every video is shown by so many
    order: TokenOrder = "temporal_spatial"
    pad_frames: int | None = None  # temporal tokens are filled up with zeros to so many; Video-ChatGPT: 100

    def __post_init__(self) -> None:
        if self.num_frames < 1 or (self.pad_frames is not None and self.pad_frames < self.num_frames):
            raise ValueError(
                f"video.num_frames must be at least 1 and pad_frames, if given, at least num_frames, got "
                f"{self.num_frames} and {self.pad_frames}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VideoPooling":
        """From a configuration; unknown keys and wrong types are errors."""
        pooling: VideoPooling = convert(cls, dict(values), "locvlm.video")
        return pooling


class Visuals(NamedTuple):
    """The visuals of a batch, as `LocVLM.forward` takes them."""

    pixel_values: torch.Tensor | None = None  # (N, 3, H, W), frames of a video one after another
    frames_per_visual: torch.Tensor | None = None  # (V,): 0 an image, n a video, CACHED; None: all are images
    pooled_features: torch.Tensor | None = None  # (K, T, D), of the cached ones

    @property
    def are_there(self) -> bool:
        """Whether there is any."""
        return self.pixel_values is not None or self.pooled_features is not None

    def sizes(self) -> list[int]:
        """`frames_per_visual` as numbers."""
        if self.frames_per_visual is not None:
            return [int(size) for size in self.frames_per_visual.tolist()]
        return [0] * (0 if self.pixel_values is None else len(self.pixel_values))

    @property
    def num_tower_calls(self) -> int:
        """How often the tower is run: once for all images, and for every chunk of a video."""
        sizes = self.sizes()
        return int(0 in sizes) + sum(-(-size // FRAMES_PER_CHUNK) for size in sizes if size > 0)


def pool_frames(
    patches: torch.Tensor, *, order: TokenOrder = "temporal_spatial", pad_frames: int | None = None
) -> torch.Tensor:
    """The tokens of a video, (n + P, D) or (pad_frames + P, D), from its frames' patches (n, P, D).

    Means are taken in fp32 at least. Example: two frames of two patches, [[1, 3], [5, 7]], give the temporal
    tokens 2, 6 and the spatial tokens 3, 5.
    """
    exact = patches.dtype if patches.dtype == torch.float64 else torch.float32
    temporal = patches.mean(dim=1, dtype=exact)  # (n, D)
    spatial = patches.mean(dim=0, dtype=exact)  # (P, D)
    if pad_frames is not None:
        temporal = nn.functional.pad(temporal, (0, 0, 0, pad_frames - len(temporal)))
    tokens = [temporal, spatial] if order == "temporal_spatial" else [spatial, temporal]
    return torch.cat(tokens).to(patches.dtype)


@torch.no_grad()
def pool_clip(model: Any, frames: torch.Tensor) -> torch.Tensor:
    """The tokens of one video before the adapter, (T, D): what a cache stores and `forward` makes of it.

    The two are equal bit for bit in the same dtype, on the same device, and with the same autocast or none.
    Frames may lie on another device; they are moved chunk by chunk.

    Args:
        model: a LocVLM.
        frames: (n, 3, H, W), normalised.

    Raises:
        ValueError: if the model was made for images alone, or for another number of frames.
    """
    pooling: VideoPooling | None = model.video
    if pooling is None:
        raise ValueError(NO_VIDEO)
    if len(frames) != pooling.num_frames:
        raise ValueError(
            f"this model sees videos by {pooling.num_frames} frames (config.locvlm['video']), got "
            f"{len(frames)}; pick so many with locvlm.data.video.clip_indices"
        )
    chunks = [_patches(model, chunk) for chunk in frames.split(FRAMES_PER_CHUNK)]
    return pool_frames(torch.cat(chunks), order=pooling.order, pad_frames=pooling.pad_frames)


def visual_tokens(model: Any, visuals: Visuals) -> list[torch.Tensor]:
    """The tokens of each visual before the adapter: V tensors (T, D), in order.

    Raises:
        ValueError: if `frames_per_visual` does not use up pixels and pooled features, or as `pool_clip`.
    """
    sizes = visuals.sizes()  # waits for the device, as the check of the placeholders does a moment later
    pieces = _pieces(visuals, sizes)
    stills = [piece for piece, size in zip(pieces, sizes, strict=True) if size == 0]
    images = iter(_patches(model, torch.cat(stills)) if stills else ())  # all in one call, as without videos
    tokens: list[torch.Tensor] = []
    for piece, size in zip(pieces, sizes, strict=True):
        if size == 0:
            tokens.append(next(images))
        elif size == CACHED:
            tokens.append(_stored(model, piece))
        else:
            tokens.append(pool_clip(model, piece))
    return tokens


@torch.no_grad()
def run_tower_as_often_as_others(model: Any, visuals: Visuals) -> None:
    """Blank images through the tower, for nothing, where its weights lie spread over the ranks (ZeRO-3).

    Each pass collects the weights from all ranks, and how many passes there are depends on a rank's videos:
    chunks of frames, or none where all are cached. Images alone are one pass everywhere.
    """
    tower = model.model.vision_tower
    weight = next(tower.parameters())  # reading one by its name would collect it
    if model.video is None or not hasattr(weight, "ds_id"):
        return
    num_here = visuals.num_tower_calls if visuals.are_there else 1  # the blank one of text-only rows
    canvas = model.spec.canvas
    blank = torch.zeros(1, 3, canvas, canvas, dtype=weight.dtype, device=model.device)
    for _ in range(max_over_ranks(num_here, device=model.device) - num_here):
        _patches(model, blank)


def require_plain_tower(config: Any, options: Mapping[str, Any]) -> None:
    """Nothing, if the tower is read as videos need it.

    Args:
        options: of the stock `get_image_features`.

    Raises:
        ValueError: for what only the stock method does, with images.
    """
    found = {
        "vision_config.model_type": config.vision_config.model_type,
        "vision_feature_layer": config.vision_feature_layer,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        **{name: value for name, value in options.items() if value is not None},
    }
    layer = config.vision_feature_layer
    expected = {
        "vision_config.model_type": "clip_vision_model",
        "vision_feature_layer": layer,
        "vision_feature_select_strategy": "default",
    }
    if found != expected or not isinstance(layer, int):
        raise ValueError(
            f"videos need a CLIP tower that is read after the config's one layer, without CLS; got {found}"
        )


def _patches(model: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """(N, P, D) by the layer that the checkpoint reads."""
    on_device = pixel_values.to(model.device)
    return patch_features(model.model.vision_tower, on_device, layer=model.config.vision_feature_layer)


def _pieces(visuals: Visuals, sizes: list[int]) -> list[torch.Tensor]:
    """Of each visual: its pixels, (1, 3, H, W) or (n, 3, H, W), or its pooled features (T, D)."""
    wanted = [max(size, 1) for size in sizes if size != CACHED]
    num_pixels = 0 if visuals.pixel_values is None else len(visuals.pixel_values)
    num_cached = 0 if visuals.pooled_features is None else len(visuals.pooled_features)
    if min(sizes, default=0) < CACHED or (sum(wanted), sizes.count(CACHED)) != (num_pixels, num_cached):
        raise ValueError(
            f"frames_per_visual {sizes} asks for {sum(wanted)} of pixel_values and {sizes.count(CACHED)} of "
            f"pooled_features, got {num_pixels} and {num_cached}; 0 is an image, n > 0 a video of n frames, "
            f"{CACHED} one whose features are given"
        )
    pixels = iter(() if visuals.pixel_values is None else visuals.pixel_values.split(wanted))
    stored = iter(() if visuals.pooled_features is None else visuals.pooled_features)
    return [next(stored if size == CACHED else pixels) for size in sizes]


def _stored(model: Any, features: torch.Tensor) -> torch.Tensor:
    """The features of a cached video on the model's device, if they are of its size."""
    if model.video is None:
        raise ValueError(NO_VIDEO)
    expected = (model.spec.num_video_tokens, model.config.vision_config.hidden_size)
    if tuple(features.shape) != expected:
        raise ValueError(
            f"the pooled features of a video are {tuple(features.shape)}, this model's are {expected}; make "
            f"the cache again with this checkpoint's tower and locvlm.video"
        )
    return features.to(model.device, next(model.model.vision_tower.parameters()).dtype)
