"""Checkpoint -> Hugging Face folder."""
