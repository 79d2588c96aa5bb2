"""Files to audit: records as rows, conversations, prompts with and without a giveaway."""

import json
import random

import pytest

from locvlm.building.auditing.entries import read_audited
from locvlm.building.auditing.tally import Tally
from locvlm.io import Ledger

CLASSES = ["dog", "cat", "bus", "cow", "elk", "emu", "fox", "owl"]


@pytest.fixture
def row():
    """row("n1", ("locpred", "dog", [1, 2, 3, 4]), ...): see `_row`."""
    return _row


@pytest.fixture
def conversation():
    """conversation("c1", ("Where?", "There."), image="n1.jpg"): see `_conversation`."""
    return _conversation


@pytest.fixture
def asked():
    """asked(600): see `_asked`."""
    return _asked


def _row(name, *queries, **fields):
    """A record as it stands in its file, 100 x 80 pixels; queries are (objective, phrase, box, class).

    The box may be None; without a class, the phrase is one.
    """
    asked = []
    for objective, phrase, box, *category in queries:
        query = {"objective": objective, "phrase": phrase, "category": category[0] if category else phrase}
        asked.append({**query, **({"box_px": box} if box else {})})
    return {"id": name, "image": f"{name}.jpg", "width": 100, "height": 80, "queries": asked, **fields}


def _conversation(name, *turns, image=None):
    """An entry of LLaVA JSON; turns are (question, answer)."""
    messages = []
    for number, (question, answer) in enumerate(turns):
        token = "<image>\n" if image and number == 0 else ""
        messages += [
            {"from": "human", "value": token + question},
            {"from": "gpt", "value": answer},
        ]
    return {"id": name, **({"image": image} if image else {}), "conversations": messages}


def _asked(images, *, absent_phrase=str, absent_class=lambda name, rng: name, seed=0):
    """Rows about so many images: two classes that are there and two that are absent, all drawn alike.

    `absent_class` and `absent_phrase` change the latter.
    """
    rng = random.Random(seed)
    rows = []
    for number in range(images):
        *there, one, other = rng.sample(CLASSES, 4)
        present = [("locpred", name, [10 * k + 1, 5, 10 * k + 9, 30]) for k, name in enumerate(there)]
        classes = [absent_class(name, rng) for name in (one, other)]
        absent = [("negpred", absent_phrase(name), None, name) for name in classes]
        rows.append(_row(f"n{number}", *present, *absent))
    return rows


@pytest.fixture
def write(tmp_path):
    """write("a.jsonl", rows) or write("a.json", entries): the file."""

    def written(name, rows):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(list(rows)))
        return path

    return written


@pytest.fixture
def tally_of(write):
    """tally_of(rows): (what is counted of them, what could be read)."""

    def tallied(rows, name="a.jsonl"):
        tally, ledger = Tally(), Ledger("entries")
        for entry in read_audited(write(name, rows), ledger):
            tally.add(entry)
        return tally, ledger

    return tallied
