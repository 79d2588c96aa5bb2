"""Tokenizers for the data tests: a small sentencepiece one made here, the real LLaMA one where present."""

from pathlib import Path

import pytest
import sentencepiece

from locvlm.data.tokenize import load_tokenizer

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
    text = folder / "text.txt"
    text.write_text("\n".join(SENTENCES * 4))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=480,
        split_digits=True,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    text.unlink()
    return folder


@pytest.fixture(scope="session")
def small_tokenizer(small_tokenizer_model):
    return load_tokenizer(small_tokenizer_model)


@pytest.fixture(scope="session")
def llama_tokenizer(shared_data):
    return load_tokenizer(shared_data / "tokenizer")


@pytest.fixture(params=["small_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)
