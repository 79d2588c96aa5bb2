"""The tiny variant is written down in the model room, the world's sizes in the world's: they agree."""

from locvlm.model.variants import variant
from locvlm.world.backbones import LANGUAGE, NUM_PIECES, VISION, VOCAB


def test_the_tiny_variant_is_the_world_s_model():
    tiny = variant("tiny")
    vision, text = tiny.vision_config, tiny.text_config
    assert (vision.image_size, vision.patch_size) == (VISION.canvas, VISION.patch)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (
        VISION.width,
        VISION.layers,
        VISION.heads,
    )
    assert (text.hidden_size, text.intermediate_size) == (LANGUAGE.width, LANGUAGE.mlp)
    assert (text.num_hidden_layers, text.num_attention_heads) == (LANGUAGE.layers, LANGUAGE.heads)
    assert text.vocab_size == VOCAB > tiny.image_token_id > text.pad_token_id == NUM_PIECES
