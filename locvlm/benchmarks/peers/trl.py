"""What TRL does: SFTTrainer on stock LLaVA, with its own collator, a sample for each pair."""

from pathlib import Path
from typing import Any

from locvlm.benchmarks.peers.data import read_pairs
from locvlm.benchmarks.peers.padded import open_stock
from locvlm.benchmarks.peers.way import Way
from locvlm.benchmarks.peers.workload import Workload


def build(work: Workload, way: str, *, as_on_gpu: bool = False) -> Way:
    """Prompt and completion as text; tokens and pixels are made by TRL's collator, pass by pass.

    TRL's head scores every position on a CPU, but on a GPU those that are supervised alone. `as_on_gpu` has
    it do the latter here, so that we are not held against what only a CPU pays.

    Raises:
        ImportError: without the extra `bench`.
    """
    import datasets
    from trl import SFTConfig, SFTTrainer
    from trl.trainer import utils

    if as_on_gpu:
        _score_supervised_rows_alone(utils)
    model, processor = open_stock(work)
    pairs = read_pairs(work)
    columns = {
        "prompt": [pair.prompt for pair in pairs],
        "completion": [pair.completion for pair in pairs],
        "image": [pair.image for pair in pairs],
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**work.padded_training(way), max_length=None, gradient_checkpointing=False),
        train_dataset=rows,
        processing_class=processor,
    )
    return Way(trainer=trainer, train=trainer.train)


def _score_supervised_rows_alone(utils: Any) -> None:
    """In this process. It is the head's choice of rows alone; its kernels ask for the device elsewhere."""
    if not hasattr(utils, "_use_triton"):
        raise ValueError(
            f"{Path(utils.__file__).name} of this TRL chooses rows in another way: leave this way out"
        )
    utils._use_triton = lambda device: True
