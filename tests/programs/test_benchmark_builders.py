import json


def test_a_small_run_builds_everything_and_writes_its_figures(run, tmp_path):
    arguments = ("--images", 300, "--instances", 2000, "--folder", tmp_path / "files")
    run("scripts/benchmark_builders.py", *arguments, "--out", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["settings"]["images"] == 300
    assert figures["settings"]["file_mb"] > 0.5
    assert figures["machine"]["cores"] >= 1
    rows = {row["run"]: row for row in figures["rows"]}
    assert {"localize_instruct", "coco_spatial", "fast_reader", "plain_reader"} <= rows.keys()
    assert all(row["wall_s"] > 0 and row["cpu_s"] > 0 and row["max_rss_mib"] > 10 for row in rows.values())
    manifest = json.loads((tmp_path / "files" / "localize.jsonl.manifest.json").read_text())
    assert manifest["input_ledgers"][0]["kept"] == 2000
    assert manifest["counts"]["queries"]["negpred"] > 300
