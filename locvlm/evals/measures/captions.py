"""Descriptions against references: METEOR 1.5, CIDEr and BLEU-4 as COCO's caption evaluation computes them
(pycocoevalcap), and a plain overlap of words that needs nothing.

Texts are taken apart by the Stanford tokenizer first: lower case, no punctuation (`meteor_raw` does without).
It and METEOR are Java programs. An answer that cannot be read, or was never given, is an empty description.
The leading "There is a ", which the RevLoc target has, is part of an answer; the metrics that end in
`_stripped` take it off.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from locvlm.evals.judged import Judged, MetricUnavailable
from locvlm.evals.parse import Said

_OPENING = re.compile(r"^there (?:is|are) (?:an? |the )?", re.IGNORECASE)
Texts = tuple[str, ...]


# ---- metrics of a task


def meteor(rows: Sequence[Judged]) -> float:
    """METEOR 1.5 of the corpus (`-l en -norm`), 0 to 1."""
    return meteor_score(*_tokenized(rows)) if rows else 0.0


def meteor_stripped(rows: Sequence[Judged]) -> float:
    """METEOR without the leading "There is a "."""
    return meteor_score(*_tokenized(rows, strip=True)) if rows else 0.0


def meteor_raw(rows: Sequence[Judged]) -> float:
    """METEOR of the texts as they are: capitals and punctuation are left to its own `-norm`."""
    descriptions = [" ".join(_description(row, strip=False).split()) for row in rows]
    return meteor_score(descriptions, [references_of(row) for row in rows]) if rows else 0.0


def cider(rows: Sequence[Judged]) -> float:
    """CIDEr-D, 0 to 10; words are weighed by how rare they are in the references of these rows."""
    return cider_score(*_tokenized(rows)) if rows else 0.0


def cider_stripped(rows: Sequence[Judged]) -> float:
    """CIDEr-D without the leading "There is a "."""
    return cider_score(*_tokenized(rows, strip=True)) if rows else 0.0


def bleu4(rows: Sequence[Judged]) -> float:
    """BLEU-4 of the corpus, 0 to 1."""
    return bleu_score(*_tokenized(rows)) if rows else 0.0


def bleu4_stripped(rows: Sequence[Judged]) -> float:
    """BLEU-4 without the leading "There is a "."""
    return bleu_score(*_tokenized(rows, strip=True)) if rows else 0.0


def token_f1(rows: Sequence[Judged]) -> float:
    """Mean over answers of the F1 of their words with the closest reference, without "There is a ".

    For quick runs: it needs no Java, and is comparable to no published figure.
    """
    scores = [
        max(_words_f1(_description(row, strip=True), reference) for reference in references_of(row))
        for row in rows
    ]
    return sum(scores) / len(scores) if scores else 0.0


def references_of(row: Judged) -> list[str]:
    """All that people called the object."""
    return list(row.source.get("references") or [row.prediction.gold["phrase"]])


def _description(row: Judged, *, strip: bool) -> str:
    text = row.reading.text if isinstance(row.reading, Said) else ""
    return _OPENING.sub("", text) if strip else text


def _words_f1(text: str, reference: str) -> float:
    said, true = (Counter(re.findall(r"\w+", words.lower())) for words in (text, reference))
    shared = (said & true).total()
    return 2 * shared / (said.total() + true.total()) if shared else 0.0


def _tokenized(rows: Sequence[Judged], *, strip: bool = False) -> tuple[Texts, list[Texts]]:
    """(descriptions, references of each), as METEOR, CIDEr and BLEU take them."""
    references = [references_of(row) for row in rows]
    tidy = tokenize(tuple(text for of_row in references for text in of_row))
    left = iter(tidy)
    descriptions = tokenize(tuple(_description(row, strip=strip) for row in rows))
    return descriptions, [tuple(next(left) for _ in of_row) for of_row in references]


# ---- the scorers


@lru_cache(maxsize=8)  # a task's metrics ask for the same texts, and Java takes a second to start
def tokenize(texts: Texts) -> Texts:
    """The texts in lower case and without punctuation, words apart by single spaces (Stanford's tokenizer).

    Raises:
        MetricUnavailable: without Java or pycocoevalcap.
    """
    _require_java()
    with _explained():
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    lines = {place: [{"caption": " ".join(text.split())}] for place, text in enumerate(texts)}
    with _java_in_utf8():
        tokens = PTBTokenizer().tokenize(lines) if texts else {}
    if len(tokens) != len(texts):
        raise RuntimeError(f"the tokenizer gave {len(tokens)} texts for {len(texts)}; see Java's messages")
    return tuple(tokens[place][0] for place in range(len(texts)))


def meteor_score(descriptions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR 1.5 (`-l en -norm`) of a corpus, 0 to 1.

    Raises:
        MetricUnavailable: without Java or pycocoevalcap.
    """
    _require_java()
    with _explained():
        from pycocoevalcap.meteor.meteor import Meteor
    with _java_in_utf8():
        scorer = Meteor()
    try:
        score, _ = scorer.compute_score(*_as_coco(descriptions, references))
    except (BrokenPipeError, ValueError) as error:
        scorer.meteor_p.kill()
        problem = scorer.meteor_p.stderr.read().decode(errors="replace").strip() or str(error)
        raise RuntimeError(f"METEOR's Java program stopped: {problem}") from error
    return float(score)


def cider_score(descriptions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D of a corpus, 0 to 10.

    Raises:
        MetricUnavailable: without pycocoevalcap.
    """
    with _explained():
        from pycocoevalcap.cider.cider import Cider
    return float(Cider().compute_score(*_as_coco(descriptions, references))[0])


def bleu_score(descriptions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of a corpus, 0 to 1.

    Raises:
        MetricUnavailable: without pycocoevalcap.
    """
    with _explained():
        from pycocoevalcap.bleu.bleu import Bleu
    return float(Bleu(4).compute_score(*_as_coco(descriptions, references), verbose=0)[0][3])


def _as_coco(
    descriptions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """(references, descriptions) by number, as pycocoevalcap takes them."""
    return (
        {place: list(texts) for place, texts in enumerate(references)},
        {place: [text] for place, text in enumerate(descriptions)},
    )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MetricUnavailable(
            'METEOR, CIDEr and BLEU need pycocoevalcap: pip install -e ".[caption]", then run eval/score.py'
        ) from error


def _require_java() -> None:
    if shutil.which("java") is None:
        raise MetricUnavailable(
            "METEOR and the tokenizer of COCO's caption evaluation are Java programs, and there is no `java` "
            "here; install a Java runtime (Debian: default-jre-headless), then run eval/score.py"
        )


@contextmanager
def _java_in_utf8() -> Iterator[None]:
    """Java programs that start in this block read and write UTF-8; otherwise the locale decides."""
    before = os.environ.get("JAVA_TOOL_OPTIONS")
    os.environ["JAVA_TOOL_OPTIONS"] = f"{before or ''} -Dfile.encoding=UTF-8".strip()
    try:
        yield
    finally:
        if before is None:
            del os.environ["JAVA_TOOL_OPTIONS"]
        else:
            os.environ["JAVA_TOOL_OPTIONS"] = before
