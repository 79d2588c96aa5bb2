"""Ids of a text word by word, from memory: what the tokenizer gives to the whole text, three times as fast.

A BPE tokenizer of sentencepiece's kind joins neighbouring characters while its vocabulary has the result.
LLaMA's has no token in which a space follows another character ("▁in" is one, "in▁" is not). So nothing is
ever joined across the place before a space, what stands on either side cannot influence the other, and the
ids of a text are those of its words one after the other:

    " It is located at (4, 52"  ->  " It"  " is"  " located"  " at"  " (4,"  " 52"

`Words.of` reads the tokenizer's own description and gives None unless all of that holds for it; callers then
tokenize texts whole, as they do for the start of a text, where tokenizers put a space of their own.
"""

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

from locvlm.constants import IMAGE_TOKEN

MAX_WORDS = 2**16  # remembered at a time, some 20 MB; coordinates with four decimals are 30,000 words
MAX_LENGTH = 64  # characters of a word that is remembered

_SPACE = "▁"  # as the vocabulary writes it; a text may hold it, too
_WORD = re.compile(f"[ {_SPACE}]*[^ {_SPACE}]+|[ {_SPACE}]+")  # its spaces come before a word
_BYTES = {f"<0x{number:02X}>" for number in range(256)}  # tokens of what has none of its own
_MODEL = {
    "type": "BPE",
    "dropout": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "byte_fallback": True,
}
_SPLITTER = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "first", "split": False}
_NO_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


class Words(dict[str, tuple[int, ...]]):
    """Word, or added token -> its ids. Not for the first word of a text; see `of`."""

    def __init__(self, tokenizer: Tokenizer, added: dict[str, int]) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._added = {token: (number,) for token, number in added.items()}
        self._added_tokens = tuple(added)
        # of several that begin at one place the longest counts
        longest_first = sorted(map(re.escape, added), key=len, reverse=True)
        self._split_at_added = re.compile(f"({'|'.join(longest_first)})").split
        self.update(self._added)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Words | None":
        """None for a tokenizer that is not known to read a text as it reads its words.

        Takes a tenth of a second.
        """
        description = json.loads(tokenizer.to_str())
        added = {token["content"]: token["id"] for token in description["added_tokens"]}
        return cls(tokenizer, added) if _reads_word_by_word(description) and IMAGE_TOKEN in added else None

    def may_cut(self, text: str, at: int) -> bool:
        """Whether the ids of `text` are those of what stands before `at` and those of what follows."""
        return (
            at == len(text)
            or (text[at] == " " and text[at - 1] not in (" ", _SPACE))
            or text.endswith(self._added_tokens, 0, at)
            or text.startswith(self._added_tokens, at)
        )

    def ids(self, text: str) -> list[int]:
        """The ids of a text that does not stand at the beginning of what is tokenized."""
        words: list[str] = []
        for number, part in enumerate(self._split_at_added(text)):
            if number % 2:
                words.append(part)  # an added token
            else:
                words += _WORD.findall(part)
        return list(chain.from_iterable(map(self.__getitem__, words)))

    def __missing__(self, word: str) -> tuple[int, ...]:
        # behind an added token a word does not stand at the beginning, and is tokenized by itself
        ids = tuple(self._tokenizer.encode(IMAGE_TOKEN + word, add_special_tokens=False).ids[1:])
        if len(self) >= MAX_WORDS:
            self.clear()
            self.update(self._added)
        if len(word) <= MAX_LENGTH:
            self[word] = ids
        return ids


def _reads_word_by_word(description: dict[str, Any]) -> bool:
    model, added = description["model"], description["added_tokens"]
    return (
        not any(description[name] for name in ("normalizer", "truncation", "padding"))
        and description["pre_tokenizer"] == _SPLITTER
        and model.items() >= _MODEL.items()
        and model["vocab"].keys() >= _BYTES
        and not any(_joins_across_a_space(token) for token in model["vocab"])
        and not any(_BYTES & set(pair) for pair in _pairs(model["merges"]))
        and all(token.items() >= _NO_FLAGS.items() and " " not in token["content"] for token in added)
    )


def _joins_across_a_space(token: str) -> bool:
    return _SPACE in token.lstrip(_SPACE)


def _pairs(merges: Sequence[Sequence[str] | str]) -> list[Sequence[str]]:
    """Older files write a merge as one text."""
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
