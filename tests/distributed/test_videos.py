"""Ranks that see different numbers of videos wait for each other: the weights lie spread over all of them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("video_ranks.py")


def run(repo_root: Path, *words: str) -> None:
    done = subprocess.run(words, cwd=repo_root, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_ranks_with_videos_images_and_text_train_under_zero_3_as_one_rank_does(repo_root, tmp_path):
    run(repo_root, sys.executable, str(PROGRAM), str(tmp_path / "one.pt"))
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    run(repo_root, torchrun, "--standalone", "--nproc_per_node", "2", str(PROGRAM), str(tmp_path / "two.pt"))
    one, two, other = (torch.load(tmp_path / name) for name in ("one.pt", "two.pt", "two.pt.other"))
    # three chunks of a clip and an image; images alone; six chunks of two clips: whoever has them
    assert two["calls"] == other["calls"] == [4, 1, 6, 1]
    for name, weight in one["weights"].items():
        assert torch.allclose(two["weights"][name], weight, atol=2e-6), name  # fp32 sums in another order
    moved = [
        name for name, weight in one["start"].items() if (one["weights"][name] - weight).abs().max() > 1e-4
    ]
    assert "model.multi_modal_projector.linear_1.weight" in moved
    assert not any("vision_tower" in name for name in moved)
