"""What a plan is computed from: a run's configuration, its machine, the sizes of its model and its data."""

from dataclasses import dataclass, replace

from transformers import LlavaConfig

from locvlm.training.plan.data import DataSize
from locvlm.training.plan.flops import Load
from locvlm.training.plan.machines import Machine
from locvlm.training.plan.settings import (
    RunConfig,
    TrainingSettings,
    read_settings,
    scope_of,
    shape_of_run,
)
from locvlm.training.plan.shapes import ModelShape, PartSize, Scope, StageName, count_parameters
from locvlm.training.plan.steps import Division, Packing, divide, rows_needed, step_load


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run, described."""

    scope: Scope
    is_4bit: bool
    machine: Machine
    settings: TrainingSettings
    packing: Packing
    shape: ModelShape
    parameters: dict[str, PartSize]
    data: DataSize
    conversations_per_step: int
    division: Division
    keeps_features: bool = False  # pooled features of videos: the tower does not see their frames

    @property
    def total(self) -> int:
        """Parameters."""
        return sum(part.total for part in self.parameters.values())

    @property
    def trained(self) -> int:
        """Parameters that train."""
        return sum(part.trained for part in self.parameters.values())

    @property
    def rows_needed(self) -> int:
        """Full rows that hold a step."""
        return rows_needed(self.conversations_per_step, self.data.lengths, self.shape, self.packing)

    @property
    def load(self) -> Load:
        """Of a step, in the rows that it is divided into, or needs."""
        rows = max(self.division.rows, self.rows_needed)
        load = step_load(self.conversations_per_step, rows, self.data.lengths, self.shape, self.packing)
        return self.as_seen(load)

    def as_seen(self, load: Load) -> Load:
        """Without the frames of videos whose features are kept."""
        return replace(load, frames=0.0) if self.keeps_features else load

    @property
    def feature_bytes(self) -> float:
        """Of the pooled features of one video; 0 where there are no videos."""
        width = self.shape.tower_width * (2 if self.settings.precision == "bf16" else 4)
        return self.shape.video_tokens * width if self.shape.num_frames else 0.0


def describe_run(
    config: RunConfig,
    machine: Machine,
    *,
    stage: StageName,
    model: LlavaConfig,
    data: DataSize,
    rows_per_step: int | None = None,
) -> Run:
    """What a configuration says. `rows_per_step` fixes the rows of a step, whatever the number of ranks.

    Raises:
        ValueError: if such rows do not divide by the ranks, or an argument is unknown.
    """
    shape = shape_of_run(config, model)
    settings = read_settings(config.training, shape)
    division = Division(ranks=machine.ranks, passes=settings.passes, rows_per_pass=settings.rows_per_pass)
    if rows_per_step is not None:
        division = divide(rows_per_step, machine.ranks, settings.rows_per_pass)
    scope = scope_of(config, stage)
    return Run(
        scope=scope,
        is_4bit=config.model.quantize is not None,
        machine=machine,
        settings=settings,
        packing=Packing(
            mode=config.packing.mode,
            max_row_tokens=config.packing.max_row_tokens,
            attention=config.model.attn_implementation,
        ),
        shape=shape,
        parameters=count_parameters(model, scope),
        data=data,
        conversations_per_step=config.data.conversations_per_step,
        division=division,
        keeps_features=config.data.video_cache is not None,
    )
