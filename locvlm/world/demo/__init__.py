"""The demo's way through the embedded world, phase by phase (scripts/demo.py)."""
