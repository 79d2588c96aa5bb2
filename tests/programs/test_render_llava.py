import json

import pytest

from locvlm.annotations.instruct import read_llava

LOCALIZE = "data_builders/localize_instruct.py"


@pytest.mark.parametrize("layout", ["multi_turn", "separate"])
def test_records_are_rendered_to_llava_json(run, instances, tmp_path, layout):
    records, out = tmp_path / "localize.jsonl", tmp_path / "llava.json"
    run(LOCALIZE, "--instances", instances, "--out", records, "--negatives-per-image", 2)
    options = ("--codec", "nfp", "--frame", "pad", "--canvas", 224, "--layout", layout)
    run("scripts/render_llava.py", "--records", records, "--out", out, *options)
    samples = list(read_llava(out))
    turns = [turn for sample in samples for turn in sample.branches[0]]
    assert len(turns) == 9 * 10
    assert len(samples) == (9 if layout == "multi_turn" else 90)
    assert all(sample.image.endswith(".jpg") for sample in samples)
    # 100 x 80 padded to a square of 100 with 10 rows above: (5, 5)-(25, 25) -> y from 0.15 to 0.35
    assert "It is located at (0.0500, 0.1500, 0.2500, 0.3500)" in {turn.answer for turn in turns}


def test_render_llava_counts_what_a_crop_cuts_away(run, instances, tmp_path):
    records, out = tmp_path / "localize.jsonl", tmp_path / "llava.json"
    run(LOCALIZE, "--instances", instances, "--out", records, "--negatives-per-image", 0)
    edit_lines = [json.loads(line) for line in records.read_text().splitlines()]
    for row in edit_lines:
        row["width"] = 400  # the crop shows x from 160 to 240: every box is left of it
    records.write_text("\n".join(json.dumps(row) for row in edit_lines))
    message = run(
        "scripts/render_llava.py", "--records", records, "--out", out, "--frame", "crop", fails=True
    )
    assert "kept 0, dropped 72 (72 the frame cuts the object away)" in message
