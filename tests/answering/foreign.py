"""Tiny random models of transformers' own classes, saved as anyone's are, with real processors."""

import json
import shutil
import string
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    LlamaConfig,
    OPTConfig,
    T5Config,
    XLMRobertaTokenizer,
)

EYES = {"image_size": 28, "patch_size": 14, "initializer_range": 0.2}  # BLIP's start from 1e-10
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_LOUDER = {"language_model": 20.0, "qformer": 10.0, "language_projection": 10.0}
WORDS = (
    "where",
    "describe",
    "image",
    "question",
    "answer",
    "the",
    "red",
    "square",
    "white",
    "cross",
    "yes",
    "no",
)


def save_foreign(kind: str, init: Path, folder: Path) -> Path:
    """A checkpoint of a kind, such as "blip-2/opt"; `init` is a tiny one of ours, for its tokenizer."""
    kind, _, decoder = kind.partition("/")
    if kind == "llava":
        return save_llava(init, folder)
    if kind == "kosmos-2":
        return save_kosmos2(folder)
    return (save_blip2 if kind == "blip-2" else save_instructblip)(init, folder, decoder)


def save_llava(init: Path, folder: Path) -> Path:
    """The tiny checkpoint as a stranger's LLaVA: stock layout, chat template, and nothing of ours in it."""
    shutil.copytree(init, folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("locvlm")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_blip2(init: Path, folder: Path, decoder: str) -> Path:
    """BLIP-2 with a decoder ("opt"), or an encoder-decoder ("t5"), which does not repeat the prompt."""
    tokenizer = AutoTokenizer.from_pretrained(init)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**SIZES, **EYES).to_dict(),
        qformer_config=Blip2QFormerConfig(
            **SIZES, vocab_size=64, encoder_hidden_size=16, cross_attention_frequency=1
        ).to_dict(),
        text_config=_text_config(decoder, tokenizer).to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config)
    images = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = Blip2Processor(images, tokenizer, num_query_tokens=4)
    return _save(model, processor, folder, louder=_LOUDER)


def save_instructblip(init: Path, folder: Path, decoder: str) -> Path:
    """InstructBLIP with LLaMA ("llama") or T5 ("t5"); the Q-Former reads questions with BERT's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(init)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *string.printable[:94]]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase + string.digits]
    qformer_tokenizer = BertTokenizer(
        vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    )
    config = InstructBlipConfig(
        vision_config=InstructBlipVisionConfig(**SIZES, **EYES).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            **SIZES, vocab_size=len(qformer_tokenizer), cross_attention_frequency=1
        ).to_dict(),
        text_config=_text_config(decoder, tokenizer).to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = InstructBlipForConditionalGeneration(config)
    images = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = InstructBlipProcessor(images, tokenizer, qformer_tokenizer, num_query_tokens=4)
    return _save(model, processor, folder, louder=_LOUDER)


def save_kosmos2(folder: Path) -> Path:
    """Kosmos-2 with all its tags and patches, and letters beside."""
    letters = [*string.printable[:94], "▁", *(f"▁{word}" for word in WORDS)]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = XLMRobertaTokenizer(
        vocab=[*((token, 0.0) for token in special), *((piece, -1.0) for piece in letters), ("<mask>", 0.0)]
    )
    images = CLIPImageProcessorPil(size={"height": 28, "width": 28}, crop_size={"height": 28, "width": 28})
    processor = Kosmos2Processor(images, tokenizer)
    config = Kosmos2Config(
        text_config={
            "vocab_size": len(tokenizer), "embed_dim": 16, "layers": 2, "ffn_dim": 32, "attention_heads": 2,
            "max_position_embeddings": 512,
        },
        vision_config={**SIZES, "image_size": 28, "patch_size": 14},
        latent_query_num=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Kosmos2ForConditionalGeneration(config)
    louder = {"text_model": 20.0, "vision_model": 10.0}
    louder |= {
        f"image_to_text_projection.{part}": 20.0 for part in ("dense", "x_attn.v_proj", "x_attn.out_proj")
    }
    return _save(model, processor, folder, louder=louder)


def _text_config(decoder: str, tokenizer: Any) -> Any:
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": 2}
    if decoder == "opt":
        return OPTConfig(
            **sizes, hidden_size=16, num_hidden_layers=2, ffn_dim=32, num_attention_heads=2,
            max_position_embeddings=256, word_embed_proj_dim=16, bos_token_id=1,
        )  # fmt: skip
    if decoder == "llama":
        return LlamaConfig(**sizes, **SIZES, max_position_embeddings=256, bos_token_id=1)
    return T5Config(
        **sizes, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _save(model: Any, processor: Any, folder: Path, *, louder: dict[str, float]) -> Path:
    """Save with some parts' weights multiplied, or a fresh model says the same to everything."""
    with torch.no_grad():
        for name, factor in louder.items():
            for parameter in model.get_submodule(name).parameters():
                if parameter.ndim > 1:
                    parameter.mul_(factor)
        for name, parameter in model.named_parameters():
            if name.endswith("SelfAttention.q.weight"):
                parameter.div_(1000.0)  # T5's, which else would not mind how far away a token is
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
