"""A pickle that may hold plain data only: lists, dicts, text, numbers.

The referring expressions of UNC are published as pickles, and a pickle can name any function of any module
and have it called while it is read. Nothing may be named here, so nothing can be called.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

# What a file raises that is cut off, of another kind, or made up: its opcodes work on an empty stack, on a
# wrong type, or on a memo entry that is not there.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
)


class _NamedObject(Exception):
    """A pickle asked for a function or class; holds its dotted name."""


class _PlainUnpickler(pickle.Unpickler):
    """Builds what opcodes alone can build: list, tuple, dict, set, str, bytes, int, float, bool, None."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise _NamedObject(f"{module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _NamedObject(f"the object with the persistent id {pid!r}")


def read_plain_pickle(path: str | Path) -> Any:
    """The value in a pickle of plain data, of any protocol; the text of Python 2 becomes `str`.

    Raises:
        ValueError: naming the file, if it is damaged, or asks for any function or class (which is named, and
            neither imported nor called).
    """
    content = Path(path).read_bytes()
    try:
        try:
            return _load(content, encoding="utf-8")
        except UnicodeDecodeError:  # 8-bit text of Python 2 without a stated encoding
            return _load(content, encoding="latin-1")
    except _NamedObject as named:
        raise ValueError(
            f"{path}: this pickle asks for {named}, and with that could run any program; expected lists, "
            f"dicts, text and numbers alone, as in the refs(*).p that UNC publishes: download it again, or "
            f"pass the list of refs as JSON"
        ) from named
    except _DAMAGED as error:
        raise ValueError(
            f"{path}: neither JSON nor a whole pickle ({type(error).__name__}: {error}); download it again"
        ) from error


def _load(content: bytes, *, encoding: str) -> Any:
    return _PlainUnpickler(io.BytesIO(content), encoding=encoding).load()
