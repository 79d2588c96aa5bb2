"""Numbers <-> text."""
