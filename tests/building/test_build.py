"""One output: it stands over nothing else, appears complete, says how it was made; and its shards, merged."""

import argparse
import errno
import json
import resource
import signal

import pytest
from PIL import Image

from locvlm.building.build import begin_build
from locvlm.building.merge import merge_shards
from locvlm.building.options import add_build_options
from locvlm.geometry import Box
from locvlm.io import Ledger, read_records
from locvlm.records import Query, Record
from locvlm.shard import Shard

WORDS = [f"word {k}" for k in range(10)]


@pytest.fixture
def build(tmp_path):
    """A builder: a record per line of a file, but for every third."""
    source = tmp_path / "input.txt"
    source.write_text("\n".join(WORDS))

    def run(*options, root=None):
        parser = argparse.ArgumentParser()
        add_build_options(parser)
        args = parser.parse_args(["--out", str(tmp_path / "out.jsonl"), *map(str, options)])
        begun = begin_build(args, inputs=[source], image_root=root)
        if begun is None:
            return None
        lines, read, used = source.read_text().splitlines(), Ledger("lines"), Ledger("used")
        read.keep(len(lines))

        def records():
            for line in args.shard.take(lines):
                if int(line[-1]) % 3 == 0:
                    used.drop(line, "third")
                    continue
                used.keep()
                yield record(line)

        return begun.write_records(
            records(),
            ledgers=[used],
            input_ledgers=[read],
            counts={"letters": {"w": 1}},
            facts={"lines": len(lines)},
        )

    run.out = tmp_path / "out.jsonl"
    run.source = source
    return run


def record(line: str) -> Record:
    queries = (
        Query(objective="locpred", phrase=line, category="word", box_px=Box(10, 10, 40, 30)),
        Query(objective="negpred", phrase=f"no <{line}>", category="word"),
    )
    return Record(id=line, image="a.png", width=100, height=50, queries=queries)


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def test_the_manifest_says_how_it_was_made(build):
    build("--seed", 3)
    manifest = manifest_of(build.out)
    assert manifest["arguments"]["seed"] == 3
    assert manifest["counts"]["records"] == 6
    assert manifest["counts"]["queries"] == {"locpred": 6, "negpred": 6}
    assert manifest["ledgers"][0]["reasons"]["third"]["count"] == 4
    assert manifest["input_ledgers"][0]["kept"] == 10
    assert "overwrite" not in manifest["arguments"]


def test_the_same_build_again_does_nothing_and_another_is_refused(build, caplog):
    build()
    before = build.out.stat().st_mtime_ns
    caplog.set_level("INFO", logger="locvlm")
    assert build() is None
    assert "is there already, complete" in caplog.text
    assert build.out.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"made by other arguments \(seed: now 1, then 0\).*--overwrite"):
        build("--seed", 1)
    build("--seed", 1, "--overwrite")
    assert manifest_of(build.out)["arguments"]["seed"] == 1


def test_an_input_or_output_that_changed_is_noticed(build, tmp_path):
    build()
    build.out.write_text(build.out.read_text() + "\n")
    with pytest.raises(ValueError, match="changed after it was built"):
        build()
    build("--overwrite")
    build.source.write_text("word 1\n")
    with pytest.raises(ValueError, match="made by other arguments"):
        build()
    (tmp_path / "out.jsonl.manifest.json").unlink()
    with pytest.raises(ValueError, match="no manifest that says how it was made"):
        build()
    build.source.unlink()
    with pytest.raises(ValueError, match=r"input\.txt: no such file"):
        build()


def test_where_the_input_lies_makes_no_difference(build, tmp_path):
    build()
    moved = build.source.rename(tmp_path / "moved.txt")
    parser = argparse.ArgumentParser()
    add_build_options(parser)
    args = parser.parse_args(["--out", str(build.out)])
    assert begin_build(args, inputs=[moved]) is None


def test_nothing_to_write_keeps_what_stood(build):
    build()
    build.source.write_text("word 3\n")
    with pytest.raises(ValueError, match="nothing in it can be asked about"):
        build("--overwrite")
    assert len(list(read_records(build.out))) == 6


def test_a_full_disk_keeps_what_stood_and_leaves_nothing_half_written(build):
    build()
    names = {path.name for path in build.out.parent.iterdir()}
    before, manifest = build.out.read_bytes(), manifest_of(build.out)
    build.source.write_text("\n".join(f"word {k}" for k in range(2000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OSError) as caught:  # noqa: PT011 (its number is checked)
            build("--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert {path.name for path in build.out.parent.iterdir()} == names
    assert (build.out.read_bytes(), manifest_of(build.out)) == (before, manifest)
    build("--overwrite")
    assert len(build.out.read_bytes()) > 100_000


def test_a_build_killed_between_manifest_and_output_is_built_again(build):
    build()
    whole = build.out.read_bytes()
    build.out.unlink()  # its manifest came first
    build()
    assert build.out.read_bytes() == whole


@pytest.mark.parametrize("count", [2, 3])
def test_merged_shards_equal_the_whole_build_with_its_manifest(build, tmp_path, count):
    build()
    parts = []
    for index in range(count):
        parts.append(tmp_path / f"part-{index}.jsonl")
        build("--out", parts[-1], "--shard", Shard(index, count))
    merged = tmp_path / "merged.jsonl"
    merge_shards(merged, parts[::-1])
    assert merged.read_bytes() == build.out.read_bytes()
    assert {**manifest_of(merged), "output": ""} == {
        **manifest_of(build.out),
        "output": "",
        "counts": {**manifest_of(build.out)["counts"], "letters": {"w": count}},
    }


def test_a_shard_of_several_may_hold_nothing(build, tmp_path):
    build.source.write_text("word 1\nword 3\n")
    build()
    parts = [tmp_path / f"part-{index}.jsonl" for index in range(2)]
    for index, part in enumerate(parts):
        build("--out", part, "--shard", f"{index}/2")
    assert parts[1].read_bytes() == b""
    merge_shards(tmp_path / "merged.jsonl", parts)
    assert (tmp_path / "merged.jsonl").read_bytes() == build.out.read_bytes()


def test_shards_that_do_not_belong_together_are_refused(build, tmp_path):
    parts = [tmp_path / f"part-{index}.jsonl" for index in range(3)]
    for index, part in enumerate(parts):
        build("--out", part, "--shard", f"{index}/3")
    out = tmp_path / "merged.jsonl"
    with pytest.raises(ValueError, match="1 of 3 shards are missing, the first is 1/3"):
        merge_shards(out, [parts[0], parts[2]])
    build("--out", tmp_path / "again.jsonl", "--shard", "0/3")
    with pytest.raises(ValueError, match="are both shard 0/3"):
        merge_shards(out, [*parts, tmp_path / "again.jsonl"])
    build("--out", parts[1], "--shard", "1/3", "--seed", 1, "--overwrite")
    with pytest.raises(ValueError, match=r"not of one build .*seed: now 1, then 0"):
        merge_shards(out, parts)
    build("--out", parts[1], "--shard", "1/3", "--overwrite")
    parts[2].write_text(parts[2].read_text() + "\n")
    with pytest.raises(ValueError, match="changed after it was built"):
        merge_shards(out, parts)
    assert not out.exists()


def test_the_preview_shows_boxes_and_dialogues(build, tmp_path):
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    page = tmp_path / "page.html"
    with pytest.raises(ValueError, match="--image-root"):
        build("--preview", page)
    build("--preview", page, root=tmp_path)
    html = page.read_text()
    assert html.count("<article>") == 6
    assert html.count('<rect x="10.00" y="10.00" width="30.00" height="20.00"') == 6
    assert "It is located at (22, 45, 90, 134)" in html  # 224 / 100 and 224 / 50 times the corners
    assert "no &lt;word 1&gt;" in html
    page.unlink()
    assert build("--preview", page, root=tmp_path) is None  # it is there; the page is made all the same
    assert page.is_file()
