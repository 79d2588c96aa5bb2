import json


def test_it_times_every_part(run, tmp_path):
    out = tmp_path / "input.json"
    run("scripts/benchmark_input.py", "--toy", "--rounds", 1, "--out", out)
    saved = json.loads(out.read_text())
    assert saved["text_us_per_pair"].keys() == {"read", "render", "tokenize", "tokenize whole", "pack"}
    for canvas in (224, 336):
        assert saved[f"images_ms_{canvas}"].keys() >= {"decode", "stretch", "pad", "normalise"}
        assert all(time > 0 for time in saved[f"images_ms_{canvas}"].values())
        assert saved[f"steps_{canvas}"]["pairs_per_s"] > saved[f"steps_{canvas}"]["conversations_per_s"] > 0
    text = saved["text_us_per_pair"]
    assert saved["headline"][0]["figure"] == 1e6 / (text["render"] + text["tokenize"])


def test_a_folder_without_annotations_is_refused(run, tmp_path):
    said = run("scripts/benchmark_input.py", "--toy", "--coco", tmp_path, fails=True)
    assert "has no annotations/instances_*.json" in said
