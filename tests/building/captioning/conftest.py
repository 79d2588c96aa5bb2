"""The tiny world of tests/training."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[2] / "training" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tiny_world", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

tiny_world = _MODULE.tiny_world
