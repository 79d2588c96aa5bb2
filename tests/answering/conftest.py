"""The tiny world of tests/training, a model of it that says something, and models of others."""

import importlib.util
from pathlib import Path

import pytest
import torch

from locvlm.answering.locvlm import load_answerer


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny_world = _load(Path(__file__).parents[1] / "training" / "conftest.py").tiny_world
_FOREIGN = _load(Path(__file__).with_name("foreign.py"))


@pytest.fixture(scope="session")
def foreign(tiny_world, tmp_path_factory):
    """foreign(kind): folder of a checkpoint of "llava", "blip-2/opt", "blip-2/t5", "instructblip/llama",
    "instructblip/t5" or "kosmos-2".
    """
    saved = {}

    def find(kind):
        if kind not in saved:
            folder = tmp_path_factory.mktemp("foreign") / "model"
            saved[kind] = _FOREIGN.save_foreign(kind, tiny_world.init, folder)
        return saved[kind]

    return find


@pytest.fixture(scope="session")
def answerer(tiny_world):
    """The untrained checkpoint in fp64, with weights so large that answers differ."""
    loaded = load_answerer(tiny_world.init, dtype=torch.float64)
    with torch.no_grad():
        for parameter in loaded.model.model.language_model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
    return loaded
