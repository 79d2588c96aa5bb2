import json
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from locvlm.constants import IMAGE_TOKEN
from locvlm.coords.codec import CODECS
from locvlm.coords.contract import CoordinateContract
from locvlm.data import words as words_module
from locvlm.data.prompt import FORMATS
from locvlm.data.tokenize import tokenize_samples
from locvlm.data.words import Words
from locvlm.geometry import Box
from locvlm.objectives.render import render_record
from locvlm.records import Query, Record, Sample, Turn

QUERIES = (
    Query(objective="locpred", phrase="a  red mug", box_px=Box(10, 120, 30, 145)),
    Query(objective="negpred", phrase="naïve 字 person"),
    Query(objective="revloc", phrase="dog", box_px=Box(0, 0, 511, 512)),
    Query(objective="caption", answer="Two dogs\ton the grass.\n\nA car  "),
    Query(objective="vqa", question="\nIs it </s> blue? <s>", answer="</s> yes"),
    Query(objective="vqa", question="", answer=" "),
)
RECORD = Record(id="r", image="a.jpg", width=512, height=512, queries=QUERIES)
# what tokenizers are sensitive to: spaces, the sign that stands for one, added tokens and parts of them
PARTS = st.sampled_from(
    [" ", "  ", "▁", "<s>", "</s>", "<unk>", "<pad>", "<", "s>", "<0x0A>", "\n", "It", "Ä"]
)
TEXT = st.lists(PARTS | st.text(max_size=6), max_size=12).map("".join)


@pytest.fixture
def words(tokenizer):
    return Words.of(tokenizer.backend_tokenizer)


def encode(tokenizer, text):
    return tokenizer.backend_tokenizer.encode(IMAGE_TOKEN + text, add_special_tokens=False).ids[1:]


@pytest.mark.parametrize(("codec", "location"), list(product(CODECS, ("bbox", "point"))))
def test_every_format_codec_and_objective_gets_the_ids_of_whole_texts(tokenizer, codec, location):
    contract = CoordinateContract(codec=codec, location=location, canvas=224, patch=14)
    for conversation in FORMATS:
        samples = [render_record(RECORD, contract, seed=seed, epoch=0) for seed in range(3)]
        samples += [Sample(id="text", image=None, branches=samples[0].branches)]
        by_words = tokenize_samples(samples, tokenizer, conversation, 4)
        assert by_words == tokenize_samples(samples, tokenizer, conversation, 4, by_words=False)
        assert sum(map(sum, (branch.supervised for branch in by_words[0].branches))) > 20


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=TEXT)
def test_any_text_gets_the_ids_of_the_whole(tokenizer, words, text):
    assert words.ids(text) == encode(tokenizer, text)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(turns=st.lists(st.builds(Turn, question=TEXT, answer=TEXT.filter(bool)), min_size=1, max_size=3))
def test_any_dialogue_is_cut_and_supervised_as_in_the_whole_text(tokenizer, turns):
    sample = Sample(id="s", image="a.jpg", branches=(tuple(turns),))
    for conversation in ("vicuna_v1", "llama2"):
        by_words = tokenize_samples([sample], tokenizer, conversation, 4)
        assert by_words == tokenize_samples([sample], tokenizer, conversation, 4, by_words=False)


def test_a_text_may_be_cut_before_a_space_and_beside_added_tokens(small_tokenizer):
    words = Words.of(small_tokenizer.backend_tokenizer)
    text = "a  b</s>c"
    assert [at for at in range(1, len(text) + 1) if words.may_cut(text, at)] == [1, 4, 8, 9]


def test_memory_is_bounded_and_what_was_forgotten_comes_back(small_tokenizer, monkeypatch):
    monkeypatch.setattr(words_module, "MAX_WORDS", 20)
    words = Words.of(small_tokenizer.backend_tokenizer)
    text = "".join(f" {number}" for number in range(100)) + " " + "x" * 100
    for _ in range(2):
        assert words.ids(text) == encode(small_tokenizer, text)
        assert len(words) <= 20
    assert " " + "x" * 100 not in words


def changed(tokenizer, change):
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    change(description)
    return Tokenizer.from_str(json.dumps(description))


def test_a_vocabulary_with_a_token_across_a_space_is_not_read_by_words(small_tokenizer):
    def join(description):
        description["model"]["vocab"][":▁"] = 100_000
        description["model"]["merges"].insert(0, [":", "▁"])

    other = changed(small_tokenizer, join)
    assert Words.of(other) is None
    words = Words.of(small_tokenizer.backend_tokenizer)
    text = "dog: cat"
    assert other.encode(IMAGE_TOKEN + text).ids != [1, words[IMAGE_TOKEN][0], *words.ids(text)]  # it matters


@pytest.mark.parametrize(
    "change",
    [
        lambda description: description.update(normalizer={"type": "Lowercase"}),
        lambda description: description["pre_tokenizer"].update(prepend_scheme="always"),
        lambda description: description["model"].update(dropout=0.1),
        lambda description: description["model"].update(byte_fallback=False),
        lambda description: description["added_tokens"][-1].update(lstrip=True),
    ],
)
def test_a_tokenizer_that_works_otherwise_is_not_read_by_words(small_tokenizer, change):
    assert Words.of(changed(small_tokenizer, change)) is None


def test_a_tokenizer_that_got_another_token_is_read_anew(small_tokenizer_model):
    from locvlm.data.tokenize import load_tokenizer

    tokenizer = load_tokenizer(small_tokenizer_model)
    sample = Sample(id="s", image="a.jpg", branches=((Turn(question="q", answer="a <here> b"),),))
    before = tokenize_samples([sample], tokenizer, "vicuna_v1", 4)
    tokenizer.add_tokens(["<here>"], special_tokens=True)
    after = tokenize_samples([sample], tokenizer, "vicuna_v1", 4)
    assert before != after == tokenize_samples([sample], tokenizer, "vicuna_v1", 4, by_words=False)
