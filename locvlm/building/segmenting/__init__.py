"""Boxes for images and videos that have none, from a panoptic segmenter (weak supervision, section 3.4)."""
