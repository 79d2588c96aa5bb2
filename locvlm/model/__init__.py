"""Packed batches -> loss and answers."""
