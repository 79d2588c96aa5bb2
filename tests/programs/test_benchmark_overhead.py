import json

import pytest


@pytest.mark.parametrize("options", [(), ("--fp32", "--images", 1)], ids=str)
def test_both_loops_end_with_the_same_weights(run, tmp_path, options):
    out = tmp_path / "overhead.json"
    run("scripts/benchmark_overhead.py", "--toy", "--steps", 5, "--images", 3, *options, "--out", out)
    saved = json.loads(out.read_text())
    assert saved["weights_differ_by"] <= 1e-6
    assert {way: len(times["seconds"]) for way, times in saved["ways"].items()} == {
        "trainer": 4,
        "bare loop": 4,
    }
    assert saved["headline"][0]["figure"] == saved["added_fraction"]
