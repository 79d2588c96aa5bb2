import json

import pytest
from PIL import Image

EXTRACT = "data_builders/extract_frames.py"


def test_frames_of_real_clips_are_written_upright_and_the_corrupt_one_is_counted(run, shared_data, tmp_path):
    out = tmp_path / "frames" / "frames.jsonl"
    source = ["--videos", shared_data / "videos", "--out", out]
    assert "dropped 1 of" in run(EXTRACT, *source, fails=True)
    assert not out.exists()
    source += ["--max-dropped-fraction", 0.3, "--overwrite"]
    said = run(EXTRACT, *source)
    assert "corrupted.mp4: frame 28 of 50 cannot be decoded" in said
    rows = {row["video"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["corrupted.mp4"]["failed"] == "unreadable video"
    assert rows["rotation_video_90.mov"]["size"] == [320, 568]
    for video, row in rows.items():
        names = sorted(path.name for path in (tmp_path / "frames" / video).glob("*"))
        assert names == [f"{frame:06d}.jpg" for frame in row["frames"]]
        for name in names:
            with Image.open(tmp_path / "frames" / video / name) as image:
                assert [*image.size] == row["size"]
    assert len(rows["bikes.mp4"]["frames"]) == 8
    assert len(rows["rotation_video_90.mov"]["frames"]) == 3


def test_processes_and_shards_write_the_same_frames(run, shared_data, tmp_path):
    (tmp_path / "list.txt").write_text("bikes.mp4\nrotation_video_90.mov\nbigbuckbunny.mp4\n")
    source = ["--videos", shared_data / "videos", "--video-list", tmp_path / "list.txt", "--num-frames", 3]
    run(EXTRACT, *source, "--out", tmp_path / "one" / "frames.jsonl")
    for k in range(2):
        out = tmp_path / "two" / f"part{k}.jsonl"
        run(EXTRACT, *source, "--shard", f"{k}/2", "--workers", 2, "--out", out)
    merged = tmp_path / "two" / "frames.jsonl"
    run("data_builders/merge.py", "--out", merged, tmp_path / "two/part1.jsonl", tmp_path / "two/part0.jsonl")
    assert merged.read_bytes() == (tmp_path / "one" / "frames.jsonl").read_bytes()
    jpegs = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.jpg"))
    assert len(jpegs) == 9
    for jpeg in jpegs:
        assert (tmp_path / "one" / jpeg).read_bytes() == (tmp_path / "two" / jpeg).read_bytes()


@pytest.mark.parametrize("option", [["--num-frames", 0], ["--preview", "x.html"]])
def test_what_makes_no_sense_is_refused(run, shared_data, tmp_path, option):
    source = ["--videos", shared_data / "videos", "--out", tmp_path / "frames.jsonl"]
    said = run(EXTRACT, *source, *option, fails=True)
    assert "at least one frame is needed" in said or "there is nothing to preview" in said
