"""scripts/compare_lmms_eval.py with lmms-eval itself, where that is installed.

LOCVLM_LMMS_PYTHON names the Python of its environment; without it, this Python is looked at.
"""

import importlib.util
import os
import subprocess
import sys

import pytest

from locvlm.export.hf import export_hf


@pytest.fixture(scope="module")
def lmms_python() -> str:
    named = os.environ.get("LOCVLM_LMMS_PYTHON")
    if named is None and importlib.util.find_spec("lmms_eval") is None:
        pytest.skip("no lmms-eval here: set LOCVLM_LMMS_PYTHON to a Python that has it")
    return named or sys.executable


@pytest.fixture(scope="module")
def compare(tiny_world, tmp_path_factory, repo_root):
    """compare(python, ...): the program on an export of the tiny world's checkpoint."""
    export = tmp_path_factory.mktemp("lmms") / "export"
    export_hf(tiny_world.init, export)

    def run(python, *more):
        words = ["--export", export, "--records", tiny_world.records, "--image-root", tiny_world.images]
        return subprocess.run(
            [sys.executable, "scripts/compare_lmms_eval.py", *map(str, words), "--python", python, *more],
            cwd=repo_root,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_an_export_answers_under_lmms_eval_as_it_does_here(compare, lmms_python):
    done = compare(lmms_python)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in counts] == ["locpred:", "absent:", "revloc:"]
    assert all(words[1] == words[3] for words in counts)
    assert sum(int(words[3]) for words in counts) >= 60


def test_a_python_that_is_not_there_is_named_before_anything_is_asked(compare, tmp_path):
    done = compare(tmp_path / "bin" / "python")
    assert done.returncode == 1
    assert "cannot start" in done.stderr
    assert "answered here" not in done.stderr
