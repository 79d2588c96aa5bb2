"""Batches and model -> checkpoints."""
