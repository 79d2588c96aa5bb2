"""The tiny world of tests/training, and launchers that start real ranks on it."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[1] / "training" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tiny_world", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

tiny_world, run_stage = _MODULE.tiny_world, _MODULE.run_stage
rows_of, weights_of = _MODULE.rows_of, _MODULE.weights_of
video_world, stage3_of = _MODULE.video_world, _MODULE.stage3_of


@pytest.fixture(scope="session")
def launch(repo_root):
    """launch("deepspeed", 2, [...]): stage 2 on two real ranks; the output where it fails."""

    def run(launcher: str, number: int, arguments: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        ranks = {
            "deepspeed": ["--num_gpus", "2", "--master_port", port],
            "torchrun": ["--nproc_per_node", "2", "--master_port", port],
        }
        program = str(Path(sys.executable).with_name(launcher))
        command = [program, *ranks[launcher], f"train/stage{number}.py", *arguments]
        done = subprocess.run(
            command, cwd=repo_root, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]

    return run
