"""The tiny pretrained parts of the embedded world: tokenizer, CLIP and LLaMA, built, shipped, written out.

    DIR/tokenizer  Hugging Face LlamaTokenizer (tokenizer.model and its configuration), with <image> and <pad>
    DIR/clip       both sides of CLIP as open_clip saves them; `init_checkpoint.py --clip` takes the tower
    DIR/llm        Hugging Face LlamaForCausalLM

The weights in `weights/` come from scripts/pretrain_world_backbones.py; bfloat16 on disk, float32 in memory.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from locvlm.constants import IMAGE_TOKEN, PAD_TOKEN
from locvlm.spec import VisionSpec

WEIGHTS = Path(__file__).parent / "weights"
TOKENIZER_FILE, CLIP_FILE, LLM_FILE = "tokenizer.model", "clip.safetensors", "llm.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionSizes:
    """The image side of the tiny CLIP; the adapter reads its second-to-last layer."""

    canvas: int = 96  # pixels
    patch: int = 12
    width: int = 192
    layers: int = 6
    heads: int = 4
    mlp_ratio: float = 4.0

    @property
    def spec(self) -> VisionSpec:
        """As the data pipeline sees it."""
        return VisionSpec(canvas=self.canvas, patch=self.patch)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSizes:
    """The text side of the tiny CLIP."""

    context: int = 96  # tokens
    width: int = 128
    layers: int = 2
    heads: int = 4
    embed: int = 192  # width of the space in which images and captions are compared


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageSizes:
    """The tiny LLaMA."""

    width: int = 192
    layers: int = 4
    heads: int = 4
    mlp: int = 512
    max_position: int = 2048


VISION, CAPTIONS, LANGUAGE = VisionSizes(), CaptionSizes(), LanguageSizes()
NUM_PIECES = 900  # sentencepiece pieces
UNK, BOS, EOS = 0, 1, 2  # ids among them
VOCAB = 960  # with <image>, <pad> and room to a multiple of 64, as real checkpoints pad


def build_clip(vision: VisionSizes = VISION, text: CaptionSizes = CAPTIONS) -> Any:
    """A fresh open_clip model of these sizes."""
    from open_clip.model import CLIP

    return CLIP(**clip_config(vision, text))


def clip_config(vision: VisionSizes = VISION, text: CaptionSizes = CAPTIONS) -> dict[str, Any]:
    """open_clip's model configuration; the end-of-text id is the highest, as its pooling expects."""
    return {
        "embed_dim": text.embed,
        "vision_cfg": {
            "image_size": vision.canvas,
            "patch_size": vision.patch,
            "width": vision.width,
            "layers": vision.layers,
            "head_width": vision.width // vision.heads,
            "mlp_ratio": vision.mlp_ratio,
            # every patch has to say something of use: better dense features than a CLS token gives
            "pool_type": "avg",
        },
        "text_cfg": {
            "context_length": text.context,
            "vocab_size": VOCAB,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
        },
    }


def build_llm(sizes: LanguageSizes = LANGUAGE) -> Any:
    """A fresh LlamaForCausalLM of these sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=sizes.max_position,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=NUM_PIECES,  # write_tokenizer adds <pad>, then <image>
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def save_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write floating point tensors as bfloat16; the file that stands is replaced by a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({k: v.detach().to(torch.bfloat16).contiguous() for k, v in state.items()}, unfinished)
    unfinished.replace(path)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read weights into float32.

    Raises:
        ValueError: if the file is missing, with the command that makes it.
    """
    if not path.exists():
        raise ValueError(
            f"{path} is missing; scripts/pretrain_world_backbones.py makes the world's backbones"
        )
    return {k: v.float() for k, v in load_file(path).items()}


def load_pieces(model_file: Path) -> Callable[[str], list[int]]:
    """The sentencepiece model's text -> ids, without marks.

    Raises:
        ValueError: if the file is missing.
    """
    import sentencepiece

    if not model_file.exists():
        raise ValueError(f"{model_file} is missing; make the tokenizer first (--parts tokenizer)")
    encode: Callable[[str], list[int]] = sentencepiece.SentencePieceProcessor(
        model_file=str(model_file)
    ).encode
    return encode


def write_tokenizer(model_file: Path, out: Path, *, max_position: int = LANGUAGE.max_position) -> None:
    """A Hugging Face LlamaTokenizer folder around a sentencepiece model, <image> and <pad> added."""
    from transformers import LlamaTokenizer

    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model_file, out / TOKENIZER_FILE)
    tokenizer = LlamaTokenizer.from_pretrained(out, add_bos_token=True, legacy=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN], "pad_token": PAD_TOKEN})
    tokenizer.model_max_length = max_position
    tokenizer.save_pretrained(out)


def write_backbones(out: Path, *, weights: Path = WEIGHTS) -> None:
    """Write tokenizer, CLIP and LLM folders under `out`, from shipped weights."""
    write_tokenizer(weights / TOKENIZER_FILE, out / "tokenizer")
    clip_state = load_weights(weights / CLIP_FILE)
    (out / "clip").mkdir(parents=True, exist_ok=True)
    save_file(clip_state, out / "clip" / "open_clip_model.safetensors")
    (out / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": clip_config()}, indent=2))
    llm = build_llm()
    llm.load_state_dict(load_weights(weights / LLM_FILE))
    llm.save_pretrained(out / "llm")
