"""Sample -> token ids with what is supervised: one tokenization of the whole text, cut by character offsets.

Pieces tokenized apart give other ids (after `<image>\\n` the whole text gives `Where`, the piece alone
`▁Where`), so training would differ from every server exactly at the seams. Here the ids are those that an
exported checkpoint's processor gives to the same text.

Two things are not tokenized over and over, because an added token splits the text before anything else
happens to it, so that what stands before and after it cannot influence each other's ids:
- the image: one placeholder is tokenized, its id repeated afterwards;
- what stands before the image, mostly the system sentence, which is the same for every sample of a format.
`tests/data/test_tokenize.py` compares both with `LlavaProcessor`, which does neither. Nor are words, where
the vocabulary rules out that anything is joined across the space before one (`data/words.py`).
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from tokenizers import Encoding
from transformers import AddedToken, AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase

from locvlm.constants import IMAGE_TOKEN, PAD_TOKEN
from locvlm.data.prompt import BOS_TOKEN, EOS_TOKEN, PromptText, render_branch
from locvlm.data.words import Words
from locvlm.records import Sample, Turn
from locvlm.spec import TextSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One dialogue after the part that it shares with its siblings."""

    ids: list[int]
    supervised: tuple[bool, ...]  # per id: is it an answer's, its end token included?


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedSample:
    """An image's or video's dialogues as ids: a branch's full sequence is `prefix_ids + branch.ids`."""

    id: str
    prefix_ids: list[int]  # BOS to the last image or video token; BOS alone for text only
    branches: tuple[Branch, ...]
    num_images: int  # or videos
    num_visual_tokens: int = 0  # image or video tokens in the prefix
    has_video: bool = False


def tokenize_sample(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, conversation: str, num_image_tokens: int
) -> TokenizedSample:
    """`tokenize_samples` of one sample; several at once are faster."""
    return tokenize_samples([sample], tokenizer, conversation, num_image_tokens)[0]


def tokenize_samples(
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
    conversation: str,
    num_image_tokens: int,
    *,
    num_video_tokens: int = 0,
    by_words: bool = True,
) -> list[TokenizedSample]:
    """The ids of every branch of every sample.

    The prefix ends right after the image or video, which is a token boundary under any tokenizer. Both have
    the same placeholder, written out `num_image_tokens` or `num_video_tokens` times.

    Words that were seen before are not tokenized again, where that gives the same ids; with `by_words` off
    every text is, whole, all in one call of the tokenizer.

    Raises:
        ValueError: naming the sample, if it cannot be rendered (see `render_branch`), if a supervised span
            does not start and end on a token boundary, or for a video where `num_video_tokens` is 0.
    """
    prompts = [[_render(sample, turns, conversation) for turns in sample.branches] for sample in samples]
    ready = iter(
        _make_branches(
            [(sample.id, prompt) for sample, row in zip(samples, prompts, strict=True) for prompt in row],
            tokenizer,
            _words_of(tokenizer) if by_words else None,
        )
    )
    image_id = _token_id(IMAGE_TOKEN, tokenizer)
    heads: dict[tuple[str, int], list[int]] = {}  # text before the image, its tokens -> ids up to its last
    result = []
    for sample, branches in zip(samples, prompts, strict=True):
        if not branches:
            raise ValueError(f"sample {sample.id!r} has no branches; give it at least one dialogue")
        num_visual = _num_visual_tokens(sample, num_image_tokens, num_video_tokens)
        head = (branches[0].text[: branches[0].prefix_end], num_visual)
        if head not in heads:
            heads[head] = _expand(_encode(head[0], tokenizer), image_id, num_visual)
        result.append(
            TokenizedSample(
                id=sample.id,
                prefix_ids=list(heads[head]),
                branches=tuple(next(ready) for _ in branches),
                num_images=int(num_visual > 0),
                num_visual_tokens=num_visual,
                has_video=sample.video is not None,
            )
        )
    return result


def tokenize_prompts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, num_image_tokens: int
) -> list[list[int]]:
    """The full ids of generation prompts (`render_question`), every image placeholder expanded."""
    if not texts:
        return []
    image_id = _token_id(IMAGE_TOKEN, tokenizer)
    ids = tokenizer(list(texts), return_attention_mask=False)["input_ids"]
    return [_expand(row, image_id, num_image_tokens) for row in ids]


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, with `<image>` and `<pad>` added where it lacks them.

    A sentencepiece `tokenizer.model` is preferred over a `tokenizer.json` beside it: the published LLaMA JSON
    files carry the old behaviour, in which text after a special token gets a space that is not there.

    Raises:
        ValueError: if the folder holds no tokenizer, or one that does not work as formats and labels need.
    """
    folder = Path(folder)
    if (folder / "tokenizer.model").is_file():
        tokenizer = _load_sentencepiece(folder / "tokenizer.model")
    elif (folder / "tokenizer.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    else:
        raise ValueError(
            f"{folder} holds no tokenizer: expected tokenizer.model (sentencepiece) or tokenizer.json"
        )
    if _add_tokens(tokenizer):
        # what is saved and loaded once behaves as it will everywhere else; the object in hand may not
        with tempfile.TemporaryDirectory() as saved:
            tokenizer.save_pretrained(saved)
            tokenizer = AutoTokenizer.from_pretrained(saved)
    _check_tokenizer(tokenizer, folder)
    return tokenizer


def text_spec(tokenizer: PreTrainedTokenizerBase, *, max_position: int) -> TextSpec:
    """The ids on which data and model must agree. `max_position` is the language model's, in tokens."""
    return TextSpec(
        image_token_id=_token_id(IMAGE_TOKEN, tokenizer),
        pad_token_id=_token_id(PAD_TOKEN, tokenizer),
        max_position=max_position,
    )


def _num_visual_tokens(sample: Sample, num_image_tokens: int, num_video_tokens: int) -> int:
    if sample.video is None:
        return num_image_tokens if sample.image is not None else 0
    if sample.image is not None or not num_video_tokens:
        is_both = sample.image is not None
        raise ValueError(
            f"sample {sample.id!r} is about the video {sample.video!r}, but "
            + (f"also about the image {sample.image!r}" if is_both else "the model knows images alone")
        )
    return num_video_tokens


def _render(sample: Sample, turns: Sequence[Turn], conversation: str) -> PromptText:
    try:
        return render_branch(turns, conversation, sample.image is not None or sample.video is not None)
    except ValueError as error:
        raise ValueError(f"sample {sample.id!r}: {error}") from error


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer(text, return_attention_mask=False)["input_ids"]
    return ids


def _token_id(token: str, tokenizer: PreTrainedTokenizerBase) -> int:
    token_id: int | None = tokenizer.get_added_vocab().get(token)
    if token_id is None:
        raise ValueError(f"the tokenizer has no {token!r} token; load it by load_tokenizer, which adds it")
    return token_id


def _tail_start(prompt: PromptText) -> int:
    """Where the part of the text starts that is tokenized for every branch.

    The image placeholder stays in front of it: it keeps the tokenizer from treating the rest as the start
    of a text. `_cut` takes it and BOS off again.
    """
    return max(prompt.prefix_end - len(IMAGE_TOKEN), 0)


def _expand(ids: Sequence[int], image_id: int, num_image_tokens: int) -> list[int]:
    """The ids with every image id repeated `num_image_tokens` times."""
    expanded: list[int] = []
    for token in ids:
        expanded.extend([token] * num_image_tokens if token == image_id else [token])
    return expanded


_WORDS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, Words | None]] = WeakKeyDictionary()


def _words_of(tokenizer: PreTrainedTokenizerBase) -> Words | None:
    """The memory of this tokenizer, a new one once it has got more tokens."""
    size, words = _WORDS.get(tokenizer, (0, None))
    if size != len(tokenizer):
        words = Words.of(tokenizer.backend_tokenizer)
        _WORDS[tokenizer] = (len(tokenizer), words)
    return words


def _make_branches(
    prompts: Sequence[tuple[str, PromptText]], tokenizer: PreTrainedTokenizerBase, words: Words | None
) -> list[Branch]:
    """The branch of each (sample id, prompt): from its words, or else from its whole text."""
    known = [None if words is None else _from_words(prompt, words) for _, prompt in prompts]
    rest = [given for given, branch in zip(prompts, known, strict=True) if branch is None]
    tails = [prompt.text[_tail_start(prompt) :] for _, prompt in rest]
    whole = zip(rest, tokenizer.backend_tokenizer.encode_batch(tails), strict=True)
    cut = (_cut(sample_id, prompt, encoding) for (sample_id, prompt), encoding in whole)
    return [next(cut) if branch is None else branch for branch in known]


def _from_words(prompt: PromptText, words: Words) -> Branch | None:
    """The branch of a prompt; None if words do not tell: a text without image, or other places to cut."""
    text, done = prompt.text, prompt.prefix_end
    if not done:
        return None
    ids: list[int] = []
    supervised: tuple[bool, ...] = ()
    for start, end in prompt.supervised:
        if not (words.may_cut(text, start) and words.may_cut(text, end)):
            return None
        asked, answered = words.ids(text[done:start]), words.ids(text[start:end])
        ids += asked
        ids += answered
        supervised += (False,) * len(asked) + (True,) * len(answered)
        done = end
    return Branch(ids=ids, supervised=supervised) if done == len(text) else None


def _cut(sample_id: str, prompt: PromptText, encoding: Encoding) -> Branch:
    """The branch of a prompt, from the encoding of its text from `_tail_start` on."""
    ids = encoding.ids
    supervised = [False] * len(ids)
    shift = _tail_start(prompt)
    for start, end in prompt.supervised:
        first = _boundary(encoding, start - shift)
        last = _boundary(encoding, end - shift) if end < len(prompt.text) else len(ids)
        if first is None or last is None:
            raise ValueError(
                f"sample {sample_id!r}: the answer {prompt.text[start:end]!r} does not start and end between "
                f"tokens; the tokenizer joins it with its neighbours: {encoding.tokens}"
            )
        supervised[first:last] = [True] * (last - first)
    num_prefix = 2 if prompt.prefix_end else 1  # BOS, and the image placeholder
    return Branch(ids=ids[num_prefix:], supervised=tuple(supervised[num_prefix:]))


def _boundary(encoding: Encoding, char: int) -> int | None:
    """The index of the token that starts at `char`; None if a token reaches across that place.

    Asked for one character at a time: listing the offsets of all tokens takes as long as tokenizing.
    """
    index = encoding.char_to_token(char)
    span = None if index is None else encoding.token_to_chars(index)
    return index if span is not None and span[0] == char else None


def _load_sentencepiece(path: Path) -> PreTrainedTokenizerBase:
    # LlamaTokenizer(vocab_file=...) silently gives a vocabulary of 3 tokens, and a folder that holds a
    # tokenizer.json too would give that one: so the file gets a folder of its own
    with tempfile.TemporaryDirectory() as alone:
        shutil.copy(path, Path(alone) / "tokenizer.model")
        tokenizer: PreTrainedTokenizerBase = LlamaTokenizer.from_pretrained(
            alone, add_bos_token=True, legacy=False
        )
    return tokenizer


def _add_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Adds `<image>`, then `<pad>` (the ids of llava-hf checkpoints); True if any was missing."""
    vocabulary = tokenizer.get_vocab()
    changed = IMAGE_TOKEN not in vocabulary or tokenizer.pad_token != PAD_TOKEN
    if IMAGE_TOKEN not in vocabulary:
        token = AddedToken(IMAGE_TOKEN, normalized=False, special=True)
        tokenizer.add_special_tokens({"extra_special_tokens": [token]})
    if tokenizer.pad_token != PAD_TOKEN:
        tokenizer.add_special_tokens({"pad_token": AddedToken(PAD_TOKEN, normalized=False, special=True)})
    return changed


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raises ValueError unless the tokenizer gives offsets, adds BOS, knows EOS and splits at `<image>`."""
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer in {folder} gives no character offsets; a fast tokenizer is needed")
    if (tokenizer.bos_token, tokenizer.eos_token) != (BOS_TOKEN, EOS_TOKEN):
        raise ValueError(
            f"the conversation formats need {BOS_TOKEN!r} and {EOS_TOKEN!r} as BOS and EOS, the tokenizer in "
            f"{folder} has {tokenizer.bos_token!r} and {tokenizer.eos_token!r}"
        )
    tokens = tokenizer.convert_ids_to_tokens(_encode(f"a{IMAGE_TOKEN}b{EOS_TOKEN}", tokenizer))
    if tokens[0] != BOS_TOKEN or tokens[-3:] != [IMAGE_TOKEN, "b", EOS_TOKEN]:
        raise ValueError(
            f"the tokenizer in {folder} reads 'a{IMAGE_TOKEN}b{EOS_TOKEN}' as {tokens}; "
            f"expected {BOS_TOKEN!r} first and [{IMAGE_TOKEN!r}, 'b', {EOS_TOKEN!r}] last; "
            f"load it from its tokenizer.model"
        )
