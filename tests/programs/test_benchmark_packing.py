import json

import pytest


def test_it_packs_times_and_quotes(run, tmp_path):
    out = tmp_path / "packing.json"
    run("scripts/benchmark_packing.py", "--toy", "--steps", 2, "--rounds", 1, "--passes", 4, 1, "--out", out)
    saved = json.loads(out.read_text())
    assert saved["fills"].keys() == {"56 pixels, 4 passes", "56 pixels"}  # in one pass a step does not fit
    assert saved["fills"]["56 pixels, 4 passes"]["rows filled (ours)"]["of_rows"] > 0.95
    for ways in saved["fills"].values():
        assert all(0 < fill["while_waiting"] <= fill["of_rows"] <= 1 for fill in ways.values())
    ours, *others = saved["time"].values()
    assert [len(ranks) for ranks in ours["passes"]] == [8]  # of one step
    quoted = [line["figure"] for line in saved["headline"] if line["unit"] == "times as fast"]
    ratios = [other[time] / ours[time] for other in others for time in ("while_waiting", "of_work")]
    assert quoted == pytest.approx(ratios)
