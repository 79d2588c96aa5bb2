"""What a model says -> the description in it, and what is wrong with that. Pure functions on text."""

import re

from locvlm.building.captioning.class_words import names_class

# reasons for which a description is dropped, in the order in which they are looked for
EMPTY = "empty"
REFUSAL = "refuses to describe"
ABSENT = "says that there is none"
COORDINATES = "holds coordinates"
LOOP = "repeats itself"
CUT_OFF = "cut off at the token limit"
TOO_LONG = "too long"
UNNAMED = "names no word of its class"
SHARED = "said of several objects of the image"  # no fault of the text alone: see `sift.py`


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)


_NUMBER = r"-?\d+(?:\.\d+)?"
_ROLE = r"(?:assistant|model|answer|caption|description|response|output|ai|gpt)"

# what `clean` takes away
_SPECIAL_TOKEN = _any_of(r"</?s>", r"<\|[^|<>]{1,40}\|>", r"<(?:image|pad|unk|bos|eos|end_of_utterance)>")
_ROLE_BEFORE = _any_of(rf"\A\s*[#*_>-]*\s*{_ROLE}\s*[*_]*\s*:\s*")
_NEXT_ROLE = re.compile(r"(?:^|\s)(?:USER|ASSISTANT|[Hh]uman|HUMAN|User|Assistant|Question)\s*:|\n\s*##")
_MARKUP = _any_of(r"^\s*(?:#{1,6}|>|[-*+•]|\d{1,2}[.)])\s+", r"\*{1,3}", "_{2,3}", "`{1,3}")
_CONSENT = _any_of(r"\A(?:sure|certainly|of course|okay|ok|absolutely)\b[\s,.!:]+")
_ANNOUNCEMENT = _any_of(r"\Ahere(?:'s| is| you go)\b[^:\n]{0,80}:\s*")
_EXISTENCE = _any_of(r"\A(?:in (?:the|this) (?:image|picture|photo),? )?there (?:is|are) (?:an?|the)\s+")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“"}
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+[^\s\d]|\s*$)")  # "no. 7" goes on
_ABBREVIATION = _any_of(r"\b(?:[a-z]|e\.g|i\.e|etc|vs|approx|st|mr|mrs|ms|dr|jr)\.\Z")

# what `problem` looks for
_REFUSAL = _any_of(
    r"\bi(?:'m| am) (?:sorry|unable|not able)\b",
    r"\bi apologi[sz]e\b",
    r"\bas an? (?:ai|artificial|language model)\b",
    r"\b(?:cannot|can't|can not)\b",
    r"\bunable to (?:see|describe|determine|identify|view)\b",
    r"\bi do(?:n't| not) (?:see|know|have)\b",
)
_ABSENT = _any_of(
    r"\Athere (?:is|are|'s) (?:no|not)\b",
    r"\Ano (?:\w+ ){1,3}(?:is|are|can be) (?:visible|present|shown|seen)\b",
    r"\A(?:\w+ ){1,4}(?:is|are) not (?:visible|present|shown|in (?:the|this) (?:image|picture|photo))\b",
    r"\b(?:image|picture|photo|scene) does(?:n't| not) (?:contain|show|include|have)\b",
)
_COORDINATES = _any_of(
    rf"[(\[]\s*{_NUMBER}\s*,\s*{_NUMBER}",
    rf"{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}",
    r"\b0\.\d+\s*,\s*0\.\d+",
    r"<(?:loc|box|bin|patch_index)[_\d]*>",
    r"\bx1\b",
    r"\bbbox\b",
)
_LONG_RUN = 6  # words that nobody says twice in a sentence
_REPEATS = 3  # times that fewer words are said in a row only by a model that cannot stop


def clean(text: str, *, whole: bool = False) -> str:
    """The description in an answer: one line without markup, role words, outer quotes and last full stop.

    Only its first sentence, unless `whole`. The training prompts put the description inside sentences of
    theirs, RevLoc's answer after "There is a": so its full stop goes, and a "There is a" of its own.

    Example:
        clean('ASSISTANT: **A red mug** on the left.  It is empty.</s>')    "A red mug on the left"
    """
    text = _ROLE_BEFORE.sub("", _SPECIAL_TOKEN.sub(" ", text))
    text = _NEXT_ROLE.split(text, maxsplit=1)[0]
    text = _MARKUP.sub("", text).strip()
    for lead_in in (_CONSENT, _ANNOUNCEMENT, _ROLE_BEFORE):
        text = lead_in.sub("", text)
    text = _unquoted(text)
    text = " ".join(text.split())
    end = None if whole else _first_end(text)
    text = _unquoted(text[:end].rstrip(" .")).rstrip(" .")
    return _EXISTENCE.sub("", text)


def problem(answer: str, description: str, *, category: str, is_cut_off: bool, max_words: int) -> str | None:
    """Why a cleaned description is of no use; None if nothing speaks against it.

    Args:
        answer: what the description was cut from.
        is_cut_off: whether the answer reached the token limit; no harm if its first sentence was complete.
    """
    checks = (
        (EMPTY, not re.search(r"\w", description)),
        (REFUSAL, _REFUSAL.search(description)),
        (ABSENT, _ABSENT.search(description)),
        (COORDINATES, _COORDINATES.search(description)),
        (LOOP, loops(description)),
        (CUT_OFF, is_cut_off and _first_end(" ".join(answer.split())) is None),
        (TOO_LONG, len(description.split()) > max_words),
        (UNNAMED, not names_class(description, category)),
    )
    return next((reason for reason, found in checks if found), None)


def loops(text: str) -> bool:
    """Whether the text says the same six words twice, or fewer words three times in a row."""
    words = re.findall(r"\w+", text.lower())
    runs = [tuple(words[k : k + _LONG_RUN]) for k in range(len(words) - _LONG_RUN + 1)]
    if len(set(runs)) < len(runs):
        return True
    return any(
        words[k : k + size] * _REPEATS == words[k : k + size * _REPEATS]
        for size in range(1, _LONG_RUN)
        for k in range(len(words) - size * _REPEATS + 1)
    )


def _first_end(text: str) -> int | None:
    """The offset just after the first sentence; None if no sentence ends."""
    for match in _SENTENCE_END.finditer(text):
        if match.end() == len(text) or not _ABBREVIATION.search(text[: match.end()]):
            return match.end()
    return None


def _unquoted(text: str) -> str:
    """The text without quotes around all of it."""
    text = text.strip()
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
