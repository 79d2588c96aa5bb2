"""The sizes of LocVLM (paper section 3.1), as stock LLaVA configurations."""

from typing import Any, Literal, get_args

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from locvlm.model.adapter import HIDDEN_ACT, AdapterKind

VariantName = Literal["b", "l", "tiny"]

_VIT_L_14: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_LLAMA_7B: dict[str, Any] = {  # LLaMA-7B and LLaMA-2-7B differ in nothing but the context and the weights
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


def variant(name: str) -> LlavaConfig:
    """The configuration of a named size; the weights come from `compose`.

    b     CLIP ViT-L/14 at 224 (256 tokens an image), linear adapter, LLaMA-7B
    l     CLIP ViT-L/14 at 336 (576 tokens), MLP adapter, LLaMA-2-7B
    tiny  the embedded world's (world/backbones.py): 96 pixels (64 tokens), MLP adapter, 4 layers

    Raises:
        ValueError: if there is no such variant.
    """
    if name == "b":
        vision = CLIPVisionConfig(**_VIT_L_14, image_size=224)
        text = LlamaConfig(**_LLAMA_7B, vocab_size=32064, max_position_embeddings=2048, rms_norm_eps=1e-6)
        return llava_config(vision, text, "linear", image_token_id=32000, pad_token_id=32001)
    if name == "l":
        vision = CLIPVisionConfig(**_VIT_L_14, image_size=336)
        text = LlamaConfig(**_LLAMA_7B, vocab_size=32064, max_position_embeddings=4096, rms_norm_eps=1e-5)
        return llava_config(vision, text, "mlp", image_token_id=32000, pad_token_id=32001)
    if name == "tiny":
        vision = CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            projection_dim=192,
            num_hidden_layers=6,
            num_attention_heads=4,
            patch_size=12,
            image_size=96,
        )
        text = LlamaConfig(
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            vocab_size=960,
            max_position_embeddings=2048,
        )
        return llava_config(vision, text, "mlp", image_token_id=901, pad_token_id=900)
    raise ValueError(f"no variant {name!r}; there are {', '.join(get_args(VariantName))}")


def llava_config(
    vision: Any,
    text: Any,
    adapter: AdapterKind,
    *,
    image_token_id: int,
    pad_token_id: int,
) -> LlavaConfig:
    """A LLaVA configuration: patches of the last tower layer but one, no CLS, untied embeddings."""
    text.pad_token_id = pad_token_id
    text.tie_word_embeddings = False  # published LLaVA checkpoints are untied, and so what reads them expects
    # no field of LlavaConfig, but published checkpoints have it
    published: dict[str, Any] = {"pad_token_id": pad_token_id}
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token_id,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        projector_hidden_act=HIDDEN_ACT[adapter],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        **published,
    )
