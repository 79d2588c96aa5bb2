"""Videos of a run: what decoding costs in every epoch, and what their pooled features cost, kept once."""

from dataclasses import dataclass

from locvlm.training.plan.flops import Load, forward_flops
from locvlm.training.plan.run import Run

# Of one core: a guess at two minutes of 360p, most of whose frames are decoded to get at those that are
# wanted. One minute of 320 x 240 takes 0.0065 (scripts/benchmark_video.py), 1080p many times that.
DECODE_S_PER_FRAME = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoCost:
    """Of the videos of a run."""

    videos: float  # different ones
    source: str  # how their number is known
    bytes_each: float  # pooled features
    decode_s: float  # of one core, for the frames of one video
    gpu_s: float  # of one GPU, to pool them
    is_kept: bool  # data.video_cache is set
    cores_needed: float  # that decode as fast as steps are computed; 0 where features are kept

    @property
    def cache_bytes(self) -> float:
        """Pooled features of all videos."""
        return self.videos * self.bytes_each

    @property
    def core_hours(self) -> float:
        """To decode each video once."""
        return self.videos * self.decode_s / 3600

    @property
    def gpu_hours(self) -> float:
        """To pool each video once."""
        return self.videos * self.gpu_s / 3600


def video_cost(run: Run, *, step_s: float, decode_s: float | None = None) -> VideoCost | None:
    """What the videos of a run cost; None where it has none.

    Args:
        step_s: of a step, computing or exchanging.
        decode_s: of one core, for the frames of one video.
    """
    shape, lengths = run.shape, run.data.lengths
    if not shape.num_frames or not lengths.video_fraction:
        return None
    frames = Load(rows=0, row_tokens=0, images=0, targets=0, pairs=0, frames=shape.num_frames)
    one_gpu = run.machine.flops / run.machine.ranks
    decode_s = shape.num_frames * DECODE_S_PER_FRAME if decode_s is None else decode_s
    needed = run.load.videos * decode_s / step_s
    return VideoCost(
        videos=run.data.videos,
        source=run.data.videos_source,
        bytes_each=run.feature_bytes,
        decode_s=decode_s,
        gpu_s=forward_flops(shape, frames, run.scope)["tower"] / one_gpu,
        is_kept=run.keeps_features,
        cores_needed=0.0 if run.keeps_features else needed,
    )
