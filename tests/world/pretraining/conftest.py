import runpy

import pytest
import sentencepiece

from locvlm.world import backbones
from locvlm.world.pretraining import views
from locvlm.world.pretraining.documents import Writer
from locvlm.world.pretraining.layout_tokens import LayoutEmbedder

PIECES = backbones.WEIGHTS / backbones.TOKENIZER_FILE


@pytest.fixture(scope="session")
def talk(repo_root):
    """The objectives' own wording, as the backbones are pretrained on it."""
    return runpy.run_path(str(repo_root / "scripts" / "pretrain_world_backbones.py"))["TALK"]


@pytest.fixture(scope="session")
def encode():
    return backbones.load_pieces(PIECES)


@pytest.fixture(scope="session")
def decode():
    return sentencepiece.SentencePieceProcessor(model_file=str(PIECES)).decode


@pytest.fixture(scope="session")
def writer(encode, talk):
    return Writer(encode, talk, longest=256)


@pytest.fixture(scope="session")
def embedder(encode):
    return LayoutEmbedder(encode, backbones.LANGUAGE.width)


@pytest.fixture(scope="session")
def scenes():
    return [views.store_scene(index, seed=0) for index in range(8)]
