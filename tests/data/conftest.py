"""Tokenizers for the data tests: a small one made here, the world's, the real LLaMA one where present."""

from pathlib import Path

import pytest

from locvlm.data.tokenize import load_tokenizer
from locvlm.world.backbones import TOKENIZER_FILE, WEIGHTS, write_tokenizer
from locvlm.world.pretraining.tokenizer import train_tokenizer

SENTENCES = [
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ASSISTANT:",
    "Where is the object described dog located in image in terms of (x1,y1,x2,y2) bbox?",
    "What is the location of object described cat in terms of (cx,cy) point?",
    "It is located at (4, 52, 13, 63)",
    "There is no such object in the image",
    "There is a person. Describe the object located at (0, 17, 98, 224)?",
    "A photo of two dogs on the grass beside a red car.",
]


@pytest.fixture(scope="session")
def small_tokenizer_model(tmp_path_factory) -> Path:
    """A folder with only a `tokenizer.model`, made like LLaMA's: BPE, split digits, byte fallback."""
    folder = tmp_path_factory.mktemp("small_sentencepiece")
    train_tokenizer(SENTENCES * 4, folder / "tokenizer.model", num_pieces=480)
    return folder


@pytest.fixture(scope="session")
def small_tokenizer(small_tokenizer_model):
    return load_tokenizer(small_tokenizer_model)


@pytest.fixture(scope="session")
def world_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world_tokenizer")
    write_tokenizer(WEIGHTS / TOKENIZER_FILE, folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def llama_tokenizer(shared_data):
    return load_tokenizer(shared_data / "tokenizer")


@pytest.fixture(params=["small_tokenizer", "world_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)
