"""The tiny world of tests/training, a model of it that says something, and models of others."""

import importlib.util
from pathlib import Path

import pytest
import torch

from locvlm.answering.answerer import Asked
from locvlm.answering.locvlm import load_answerer
from locvlm.data.prompt import render_question
from locvlm.data.tokenize import tokenize_prompts
from locvlm.model.generate import answer_one


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


def loud(folder):
    """A checkpoint in fp64, with weights so large that answers differ."""
    loaded = load_answerer(folder, dtype=torch.float64)
    with torch.no_grad():
        for parameter in loaded.model.model.language_model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
    return loaded


@pytest.fixture(scope="session")
def answerer(tiny_world):
    """The untrained checkpoint, see `loud`."""
    return loud(tiny_world.init)


@pytest.fixture(scope="session")
def video_answerer(tiny_world):
    """The same made for videos of six frames."""
    loaded = loud(tiny_world.init)
    video = {"num_frames": 6, "order": "temporal_spatial", "pad_frames": None}
    loaded.model.config.locvlm = {**loaded.model.config.locvlm, "video": video}
    return loaded


@pytest.fixture
def ids_of():
    """ids_of(answerer, item, question, answer=""): a whole prompt about what an `Asked` shows."""

    def find(answerer, item: Asked, question: str, answer: str = "") -> list[int]:
        spec = answerer.model.spec
        text = render_question(question, answerer.conversation, not item.is_blind) + answer
        num_tokens = spec.num_video_tokens if item.frames else spec.num_image_tokens
        [ids] = tokenize_prompts([text], answerer.tokenizer, num_tokens)
        return ids

    return find


@pytest.fixture
def pixels_of():
    """pixels_of(answerer, item): of an image (3, H, W), of a video (n, 3, H, W), or None."""

    def find(answerer, item: Asked) -> torch.Tensor | None:
        if item.frames:
            return torch.stack([torch.from_numpy(answerer.pixels(frame)) for frame in item.frames])
        return None if item.image is None else torch.from_numpy(answerer.pixels(item.image))

    return find


@pytest.fixture
def one_by_one(ids_of, pixels_of):
    """one_by_one(answerer, asked, max_new_tokens=6): greedy answers without cache, batch or padding."""

    def answer(answerer, asked, *, max_new_tokens: int) -> list[list[str]]:
        def alone(item: Asked, question: str) -> str:
            ids = answer_one(
                answerer.model,
                ids_of(answerer, item, question),
                pixels_of(answerer, item),
                eos_token_id=answerer.tokenizer.eos_token_id,
                max_new_tokens=max_new_tokens,
            )
            return str(answerer.tokenizer.decode(ids, skip_special_tokens=True)).strip()

        return [[alone(item, question) for question in item.questions] for item in asked]

    return answer
