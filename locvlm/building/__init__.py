"""Builders of data sets: what their programs share, and what makes captions, boxes and blurred faces."""
