"""The tiny world of tests/training, and the models of others of tests/answering."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[2] / "answering" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("answering", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

tiny_world, foreign = _MODULE.tiny_world, _MODULE.foreign
