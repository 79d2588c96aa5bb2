import pytest
import sentencepiece

from locvlm.data.prompt import FORMATS
from locvlm.objectives import locpred, negpred, revloc
from locvlm.world import backbones, views
from locvlm.world.probe import probe_encoder, probe_lookup
from locvlm.world.text import Dialogue

VICUNA = FORMATS["vicuna_v1"]
TALK = Dialogue(
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
PIECES = backbones.WEIGHTS / backbones.TOKENIZER_FILE


@pytest.fixture(scope="module")
def encode():
    return backbones.load_pieces(PIECES)


def shipped(model, file):
    model.load_state_dict(backbones.load_weights(backbones.WEIGHTS / file))
    return model


def test_the_shipped_encoder_names_and_places_things_of_scenes_it_has_not_seen(encode):
    fit, test = (
        [views.store_scene(index, seed=123) for index in chosen] for chosen in (range(60), range(60, 100))
    )
    scores = probe_encoder(shipped(backbones.build_clip(), backbones.CLIP_FILE), fit, test, encode)
    assert scores["named"] > 0.7  # chance: 1 of 40
    untrained = probe_encoder(backbones.build_clip(), fit, test, encode)
    assert untrained["named"] < 0.2
    assert scores["linear_box_miou"] > untrained["linear_box_miou"] + 0.1


def test_the_shipped_language_model_reads_a_box_out_of_its_context(encode):
    """Of one thing; to tell several apart it has not learned."""
    decode = sentencepiece.SentencePieceProcessor(model_file=str(PIECES)).decode
    llm = shipped(backbones.build_llm(), backbones.LLM_FILE)
    assert probe_lookup(llm, encode, decode, TALK, num_things=1, tries=8) >= 0.75


def test_a_language_model_that_has_learned_nothing_reads_nothing(encode):
    decode = sentencepiece.SentencePieceProcessor(model_file=str(PIECES)).decode
    assert probe_lookup(backbones.build_llm(), encode, decode, TALK, num_things=1, tries=2) == 0
