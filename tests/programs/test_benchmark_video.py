import json

import pytest


@pytest.mark.slow  # four trainings and a world
def test_it_times_live_and_kept_features_and_decoding(run, tmp_path):
    size = ("--clips", 4, "--seconds", 1, "--frames", 4, "--steps", 5, "--repeats", 1)
    run("scripts/benchmark_video.py", *size, "--out", tmp_path / "video.json")
    figures = json.loads((tmp_path / "video.json").read_text())
    assert figures["step_s"]["live"] > 0
    assert figures["live_against_kept"] > 0
    assert {"live", "kept"} == figures["runs"].keys()
    assert figures["runs"]["live"][0]["parts_s"].keys() == figures["runs"]["kept"][0]["parts_s"].keys()
    assert figures["decoding"]["decord_s"] > 0
    assert figures["making_features_s"] > 0
