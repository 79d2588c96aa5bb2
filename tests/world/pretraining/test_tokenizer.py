import random

import sentencepiece

from locvlm.world.pretraining.tokenizer import train_tokenizer


def test_a_tokenizer_learns_whole_words(tmp_path):
    rng = random.Random(0)
    words = ["mug", "kite", "robot", "owl"]
    lines = [" ".join(rng.choice(words) for _ in range(8)) + f" ({rng.randint(0, 96)})" for _ in range(400)]
    train_tokenizer(lines, tmp_path / "t.model", num_pieces=300)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t.model"))
    assert pieces.encode("kite 42", out_type=str) == ["▁kite", "▁", "4", "2"]
