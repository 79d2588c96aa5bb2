"""What lmms-eval calls of a task that `compare.py` writes. A copy of this file lies beside the task.

lmms-eval loads it in an environment of its own: it imports nothing of this package.
"""

from typing import Any

from PIL import Image


def shown(doc: dict[str, Any]) -> list[Image.Image]:
    """The image."""
    with Image.open(doc["image"]) as image:
        return [image.convert("RGB")]


def asked(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """The question as our engine put it, with nothing before or behind it."""
    return str(doc["question"])


def answered(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """What is written into the samples: the answer, by the question's id."""
    return {"answered": {"id": doc["id"], "answer": results[0]}}


def count(answers: list[Any]) -> int:
    """lmms-eval wants a figure; right and wrong are none of its business here."""
    return len(answers)
