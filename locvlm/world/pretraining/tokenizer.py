"""The world's tokenizer: byte pairs by sentencepiece, as LLaMA's."""

from collections.abc import Iterable
from pathlib import Path

from locvlm.world.backbones import BOS, EOS, NUM_PIECES, UNK

LONGEST_LINE = 4192  # sentencepiece's own limit, in bytes


def train_tokenizer(lines: Iterable[str], path: Path, *, num_pieces: int = NUM_PIECES) -> None:
    """A byte-pair sentencepiece model with split digits and byte fallback, as LLaMA's."""
    import sentencepiece

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(line for line in lines if len(line) < LONGEST_LINE),
            model_writer=out,
            vocab_size=num_pieces,
            model_type="bpe",
            split_digits=True,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
