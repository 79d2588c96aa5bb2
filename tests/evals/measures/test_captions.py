"""METEOR and the tokenizer are Java programs: these tests need them and pycocoevalcap, or are skipped."""

import importlib.util
import json
import shutil

import pytest

from locvlm.evals.judged import MetricUnavailable
from locvlm.evals.measures import captions
from locvlm.evals.measures.captions import bleu_score, cider_score, meteor_score, token_f1, tokenize
from locvlm.evals.parse import Said, Unanswered, Unreadable

HAS_PACKAGE = importlib.util.find_spec("pycocoevalcap") is not None
needs_package = pytest.mark.skipif(not HAS_PACKAGE, reason="needs pycocoevalcap, the extra `caption`")
needs_java = pytest.mark.skipif(
    not HAS_PACKAGE or shutil.which("java") is None, reason="needs pycocoevalcap and Java"
)


@pytest.fixture
def corpus(shared_data):
    """(expected scores, descriptions, references of each) of the published corpus."""
    folder = shared_data / "nlg_eval"
    texts = [(folder / name).read_text().splitlines() for name in ("hyp.txt", "ref1.txt", "ref2.txt")]
    return json.loads((folder / "expected.json").read_text()), texts[0], list(zip(*texts[1:], strict=True))


@needs_java
def test_meteor_is_the_published_one_of_the_corpus_and_of_single_sentences(corpus):
    expected, descriptions, references = corpus
    assert meteor_score(descriptions, references) == pytest.approx(
        expected["corpus_hyp_vs_ref1_ref2"]["METEOR"], abs=5e-7
    )
    assert len(expected["single"]) == 2
    for case in expected["single"]:  # the second has letters beyond ASCII
        assert meteor_score([case["hyp"]], [case["refs"]]) == pytest.approx(case["METEOR"], abs=5e-9)


@needs_package
def test_cider_and_bleu_are_the_published_ones(corpus):
    expected, descriptions, references = corpus
    whole = expected["corpus_hyp_vs_ref1_ref2"]
    assert cider_score(descriptions, references) == pytest.approx(whole["CIDEr"], abs=5e-7)
    assert bleu_score(descriptions, references) == pytest.approx(whole["Bleu_4"], abs=5e-7)


@needs_java
def test_the_tokenizer_keeps_one_text_for_each_whatever_is_in_it():
    texts = ("There is a Man, left.", "", "a\nb", "a\u2028b", "...", "caf\u00e9 ||| x")
    assert tokenize(texts) == ("there is a man left", "", "a b", "a b", "", "caf\u00e9 | | | x")
    assert tokenize(()) == ()


@pytest.mark.slow  # Java starts three times
@needs_java
def test_the_metrics_of_a_task_are_those_of_the_corpus(corpus, judged):
    expected, descriptions, references = corpus
    whole = expected["corpus_hyp_vs_ref1_ref2"]
    rows = [
        judged(Said(f"There is a {text.capitalize()}."), source={"references": list(of_text)})
        for text, of_text in zip(descriptions, references, strict=True)
    ]
    assert captions.meteor_stripped(rows) == pytest.approx(whole["METEOR"], abs=5e-7)
    assert captions.cider_stripped(rows) == pytest.approx(whole["CIDEr"], abs=5e-7)
    assert captions.bleu4_stripped(rows) == pytest.approx(whole["Bleu_4"], abs=5e-7)
    assert captions.meteor(rows) < whole["METEOR"]  # "there is a" is in no reference
    assert captions.bleu4(rows) < whole["Bleu_4"]
    assert captions.cider(rows) < whole["CIDEr"]


@pytest.mark.slow  # Java starts three times
@needs_java
def test_an_answer_that_is_missing_is_an_empty_description(corpus, judged):
    _, descriptions, references = corpus
    readings = [Said(descriptions[0]), Unreadable("an empty answer")]
    rows = [
        judged(reading, source={"references": list(of_text)})
        for reading, of_text in zip(readings, references, strict=True)
    ]
    score = captions.meteor(rows)
    assert 0 < score < captions.meteor(rows[:1])
    assert captions.meteor_raw(rows) == pytest.approx(score)  # no capitals, no punctuation


def test_without_java_the_message_says_what_to_install(monkeypatch, judged):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MetricUnavailable, match=r"no `java` here; install a Java runtime .* eval/score\.py"):
        captions.meteor([judged(Said("a dog"))])


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(MetricUnavailable, match=r'pip install -e "\.\[caption\]"'):
        cider_score(["a dog"], [["a dog"]])


def test_the_overlap_of_words_takes_the_closest_reference_and_needs_nothing(judged):
    references = {"references": ["the red mug", "mug on a table"]}
    rows = [
        judged(Said("There is a red mug."), source=references),  # 2 shared, 2 and 3 words: 4 / 5
        judged(Said("There is an MUG on a table"), source=references),  # all
        judged(Said("There is a dog."), source=references),
        judged(Unreadable("an empty answer"), source=references),
        judged(Unanswered("unreadable image"), source=references),
    ]
    assert token_f1(rows) == pytest.approx((4 / 5 + 1) / 5)
    assert token_f1([judged(Said("mug"))]) == 1  # without references: the phrase that was asked about
