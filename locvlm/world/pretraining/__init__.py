"""How the world's backbones were made: a tokenizer, CLIP by contrast, LLaMA on text and layouts."""
