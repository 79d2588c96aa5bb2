"""Real COCO files through both stages under deepspeed with two ranks, by the documented command."""

import json
import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_stages_on_real_photographs(repo_root: Path, shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", "scripts/try_coco.sh", str(shared_data / "coco"), str(out)],
        cwd=repo_root,
        env={**os.environ, "STEPS": "3", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for stage, weights in (("stage1", "adapter.safetensors"), ("stage2", "model.safetensors")):
        rows = [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
        assert (out / stage / "final" / weights).is_file()
        environment = json.loads((out / stage / "environment.json").read_text())
        assert environment["ranks"] == 2
    page = (out / "frames.html").read_text()
    assert page.count("data:image/") >= 9  # photographs as stretch, pad and crop
