"""Faces in images and videos: found, blurred, written anew (paper App. C)."""
