"""Going on from a DeepSpeed checkpoint with another number of ranks: DeepSpeed's universal checkpoints.

ZeRO writes what each rank held. Its converter puts the pieces of every parameter and its optimizer state
together (https://www.deepspeed.ai/tutorials/universal-checkpointing/); any number of ranks then reads its own
share. The converted form is kept inside the checkpoint: it is made once.
"""

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from locvlm import dist

logger = logging.getLogger(__name__)

_LATEST = "latest_universal"  # the converter's file that names the folder it made; written last


def convert(folder: Path) -> None:
    """Add the universal form to RUN/checkpoint-N, which holds DeepSpeed's part in global_stepN.

    The main process converts; every rank has to call this, and waits for it.

    Raises:
        ValueError: if the converter fails, with the end of what it said.
    """
    if dist.is_main() and not (folder / _LATEST).is_file():
        tag = (folder / "latest").read_text(encoding="utf-8").strip()
        made = folder / f"{tag}_universal"
        shutil.rmtree(made, ignore_errors=True)  # of a conversion that was killed
        logger.info("converting %s for another number of ranks", folder)
        command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
        command += ["--input_folder", str(folder / tag), "--output_folder", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"cannot convert {folder} for another number of ranks: {done.stderr[-800:]}")
    dist.wait()


def read_universal(deepspeed_config: dict[str, Any]) -> None:
    """Have the engine that will be made from this configuration read the universal form."""
    deepspeed_config.setdefault("checkpoint", {})["load_universal"] = True
