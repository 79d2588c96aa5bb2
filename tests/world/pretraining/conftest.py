import pytest
import sentencepiece

from locvlm.data.prompt import FORMATS
from locvlm.objectives import locpred, negpred, revloc
from locvlm.world import backbones
from locvlm.world.pretraining.documents import Writer
from locvlm.world.pretraining.layout_tokens import LayoutEmbedder
from locvlm.world.pretraining.text import Dialogue

VICUNA = FORMATS["vicuna_v1"]
PIECES = backbones.WEIGHTS / backbones.TOKENIZER_FILE


@pytest.fixture(scope="session")
def talk():
    """The objectives' own wording."""
    return Dialogue(
        frame=VICUNA.first + "{question}" + VICUNA.ask + VICUNA.answer,
        later=VICUNA.later + "{question}" + VICUNA.ask + VICUNA.answer,
        end=VICUNA.end,
        where=locpred.PROMPTS,
        located=locpred.ANSWER,
        absent=negpred.ABSENT_ANSWER,
        what=revloc.PROMPTS,
        found=revloc.ANSWER,
        representation="(x1,y1,x2,y2) bbox",
    )


@pytest.fixture(scope="session")
def encode():
    return backbones.load_pieces(PIECES)


@pytest.fixture(scope="session")
def decode():
    return sentencepiece.SentencePieceProcessor(model_file=str(PIECES)).decode


@pytest.fixture(scope="session")
def writer(encode, talk):
    return Writer(encode, talk, size=backbones.VISION.canvas, longest=256)


@pytest.fixture(scope="session")
def embedder(encode):
    return LayoutEmbedder(encode, backbones.LANGUAGE.width)
