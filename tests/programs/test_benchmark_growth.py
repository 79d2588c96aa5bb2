import json

import pytest


@pytest.fixture
def grown(run, tmp_path):
    def measure(curve, *options):
        out = tmp_path / f"{curve}.json"
        run("scripts/benchmark_growth.py", curve, "--toy", "--rounds", 2, "--out", out, *options)
        saved = json.loads(out.read_text())
        assert saved["headline"]
        assert saved["settings"]["curve"] == curve
        return saved["curve"]

    return measure


def test_rows(grown):
    curve = grown("rows", "--images", 4)
    assert {name: [x for x, _ in line] for name, line in curve["lines"].items()} == {
        "sdpa": [128, 256],
        "tree": [128, 256],
    }
    assert len({round(loss, 2) for loss in curve["more"]["losses"].values()}) == 1
    assert all(sum(shares.values()) == pytest.approx(1) for shares in curve["shares"].values())
    assert curve["shares"].keys() == {"sdpa, 128", "sdpa, 256", "tree, 128", "tree, 256"}


def test_pairs(grown):
    curve = grown("pairs", "--images", 4)
    measured, counted = (dict(map(tuple, line)) for line in curve["lines"].values())
    assert measured.keys() == counted.keys() == {1, 3}
    assert counted[1] == pytest.approx(1)
    assert counted[3] > 1.2
    assert curve["more"]["ms_per_pair"].keys() == {"shared prefix", "separate"}


def test_records(grown):
    curve = grown("records")
    for name, line in curve["lines"].items():
        assert [x for x, _ in line] == [100, 300], name
        assert all(seconds > 0 for _, seconds in line)
    assert {found["after"] > 1 for found in curve["more"]["memory_mb"].values()} == {True}


@pytest.mark.slow  # five starts of real ranks
def test_ranks(grown):
    curve = grown("ranks")
    assert {name: [x for x, _ in line] for name, line in curve["lines"].items()} == {
        "DDP": [1, 2],
        "ZeRO-2": [1, 2],
    }
    assert curve["shares"].keys() == {
        "DDP, 1 x 1",
        "DDP, 2 x 1",
        "ZeRO-2, 1 x 1",
        "ZeRO-2, 2 x 1",
        "DDP, 1 x 2",
    }
    assert all(shares["backward"] > 0 for shares in curve["shares"].values())
    losses = curve["more"]["losses"].values()
    assert max(losses) - min(losses) < 2e-3 * max(losses)
