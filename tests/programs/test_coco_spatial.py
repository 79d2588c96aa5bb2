import json

from locvlm.io import read_records

SPATIAL = "data_builders/coco_spatial.py"
MERGE = "data_builders/merge.py"


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def test_coco_spatial_writes_balanced_files_per_form_and_axis(run, instances, tmp_path):
    run(SPATIAL, "--instances", instances, "--out", tmp_path / "spatial")
    names = [
        f"coco_spatial_{form}_{axis}" for form in ("direct", "icl") for axis in ("horizontal", "vertical")
    ]
    assert sorted(p.name for p in (tmp_path / "spatial").glob("*.jsonl")) == sorted(
        f"{n}.jsonl" for n in names
    )
    for name in names:
        path = tmp_path / "spatial" / f"{name}.jsonl"
        assert len(list(read_records(path))) == 18
        answers = manifest_of(path)["counts"]["answers"]
        assert sorted(answers.values()) == [9, 9]
        assert set(answers) == ({"left", "right"} if "horizontal" in name else {"above", "below"})


def test_coco_spatial_options(run, instances, tmp_path):
    arguments = ("--instances", instances, "--out", tmp_path / "spatial")
    run(
        SPATIAL,
        *arguments,
        "--axis",
        "horizontal",
        "--form",
        "direct",
        "--release-filter",
    )
    (path,) = (tmp_path / "spatial").glob("*.jsonl")
    assert manifest_of(path)["counts"]["answers"] == {"right": 36}
    message = run(SPATIAL, *arguments, "--release-filter", fails=True)
    assert "use it with --form direct" in message


def test_what_is_there_is_kept_and_what_is_missing_is_built(run, instances, tmp_path):
    arguments = ("--instances", instances, "--out", tmp_path / "spatial", "--split", "val2017")
    run(SPATIAL, *arguments)
    paths = sorted((tmp_path / "spatial").glob("*.jsonl"))
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}
    paths[1].unlink()  # as if killed before it
    assert "is there already" in run(SPATIAL, *arguments)
    for path in paths:
        mtime_ns, content = before[path.name]
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == mtime_ns) is (path != paths[1])
        assert {record.source["split"] for record in read_records(path)} == {"val2017"}
    message = run(SPATIAL, *arguments, "--gold", "exemplar", fails=True)
    assert "made by other arguments (gold: now 'exemplar', then 'asked')" in message


def test_merged_shards_are_the_unsharded_files(run, instances, tmp_path):
    run(SPATIAL, "--instances", instances, "--out", tmp_path / "whole", "--form", "icl")
    for index in range(2):
        arguments = ("--shard", f"{index}/2", "--out", tmp_path / f"part-{index}", "--form", "icl")
        run(SPATIAL, "--instances", instances, *arguments)
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.jsonl"))
    assert len(names) == 2
    for name in names:
        parts = [tmp_path / f"part-{index}" / name for index in range(2)]
        run(MERGE, "--out", tmp_path / name, *parts)
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert manifest_of(tmp_path / name) == manifest_of(tmp_path / "whole" / name)


def test_real_coco_with_previews(run, shared_data, tmp_path):
    folder = shared_data / "coco"
    instances = folder / "annotations" / "instances_train2017.json"
    arguments = (
        "--image-root",
        folder / "train2017",
        "--preview",
        tmp_path / "page.html",
        "--form",
        "direct",
    )
    run(SPATIAL, "--instances", instances, *arguments, "--out", tmp_path)
    for axis in ("horizontal", "vertical"):
        records = list(read_records(tmp_path / f"coco_spatial_direct_{axis}.jsonl"))
        assert len(records) > 5
        page = (tmp_path / f"page_direct_{axis}.html").read_text()
        assert page.count("<article>") == min(len(records), 24)
        assert page.count("<rect") >= 2 * page.count("<article>")
