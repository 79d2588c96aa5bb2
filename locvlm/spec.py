"""The sizes on which data and model must agree, read from a checkpoint and handed to both."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionSpec:
    """The vision tower as the data pipeline sees it.

    Example: VisionSpec(canvas=224, patch=14) is CLIP ViT-L/14: a 16 x 16 grid, 256 image tokens; with
    num_frames=100, a video has 356 tokens.

    Raises:
        ValueError: if the canvas is not a whole number of patches, or videos are padded to fewer frames than
            they have.
    """

    canvas: int  # side of the square model input, in pixels
    patch: int  # side of one patch, in pixels
    image_mean: tuple[float, float, float] = (
        0.48145466,
        0.4578275,
        0.40821073,
    )  # CLIP's, per RGB channel in [0, 1]
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    num_frames: int = 0  # that every video is shown by; 0: the model was made for images alone
    pad_frames: int | None = None  # temporal tokens are filled up with zeros to so many

    def __post_init__(self) -> None:
        if self.patch <= 0 or self.canvas <= 0 or self.canvas % self.patch:
            raise ValueError(
                f"the canvas must be a whole number of patches, got canvas {self.canvas} and patch "
                f"{self.patch}; CLIP ViT-L/14 has 224 and 14, or 336 and 14"
            )
        if self.num_frames < 0 or (self.pad_frames is not None and self.pad_frames < self.num_frames):
            raise ValueError(
                f"num_frames must be 0 (images alone) or more, and pad_frames at least as many, got "
                f"{self.num_frames} and {self.pad_frames}"
            )

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.canvas // self.patch

    @property
    def num_image_tokens(self) -> int:
        """Image tokens per image: every patch, without the CLS token."""
        return self.grid**2

    @property
    def num_video_tokens(self) -> int:
        """Tokens per video: one a frame, or as many as they are filled up to, and one a patch."""
        return (self.pad_frames or self.num_frames) + self.num_image_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSpec:
    """The language model as the data pipeline sees it."""

    image_token_id: int
    pad_token_id: int
    max_position: int  # longest sequence the model was made for, in tokens
