"""The newest transformers 4.x, in an environment of its own, gives the logits that this one gives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from locvlm.export.hf import export_hf

# tokenizers: 4.57 refuses newer ones; torch, numpy, ... are those of this environment
PACKAGES = ("transformers>=4.57,<5", "huggingface_hub<1", "tokenizers>=0.22,<=0.23.0")
REQUESTS = (
    "requests",
    "urllib3",
    "idna",
    "certifi",
    "charset-normalizer",
)  # what huggingface_hub 0.x asks for
READER = Path(__file__).with_name("reader.py")


@pytest.fixture(scope="session")
def transformers4(tmp_path_factory) -> Path:
    """A folder that, first on the path, makes `transformers` 4.x; LOCVLM_TRANSFORMERS4 names one to keep."""
    kept = os.environ.get("LOCVLM_TRANSFORMERS4")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("transformers4")
    if not (folder / "transformers").is_dir():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(folder),
            *PACKAGES,
            *REQUESTS,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            pytest.skip(f"pip cannot fetch transformers 4.x here: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def read(folder: Path, image: Path, out: Path, first_on_path: Path | None) -> dict[str, np.ndarray]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(first_on_path) if first_on_path else ""
    command = [sys.executable, str(READER), str(folder), str(image), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(out))


def compare(checkpoint: Path, folder: Path, transformers4: Path) -> None:
    """Export, read in both environments, compare."""
    export_hf(checkpoint, folder / "export")
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(7, 0).repeat(7, 1)
    np.save(folder / "image.npy", image)
    old, new = (
        read(folder / "export", folder / "image.npy", folder / f"{name}.npz", path)
        for name, path in (("old", transformers4), ("new", None))
    )
    assert str(old["version"]).startswith("4.")
    assert str(new["version"]).startswith("5.")
    assert old["missing"].size == new["missing"].size == 0
    assert np.array_equal(old["ids"], new["ids"])
    # one resizes with Pillow, the other with torchvision: a level apart, two where both round
    assert np.abs(old["pixels"] - new["pixels"]).max() < 2.5 / 255 / 0.26
    assert (
        np.abs(old["logits"] - new["logits"]).max() < 1e-5 * np.abs(new["logits"]).max()
    )  # for equal pixels
    assert str(old["answer"]) == str(new["answer"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frame", "adapter", "conversation"),
    [("stretch", "linear", "vicuna_v1"), ("pad", "mlp", "vicuna_v1"), ("crop", "linear", "llama2")],
)
def test_transformers_4_reads_the_export_as_this_one_does(
    transformers4, build_checkpoint, tmp_path, frame, adapter, conversation
):
    checkpoint = build_checkpoint(frame=frame, adapter=adapter, conversation=conversation)
    compare(checkpoint, tmp_path, transformers4)


@pytest.mark.slow
def test_transformers_4_splits_text_as_this_one_does_with_llamas_own_tokenizer(
    transformers4, build_checkpoint, shared_data, tmp_path
):
    compare(build_checkpoint(tokenizer=shared_data / "tokenizer"), tmp_path, transformers4)
