import json

import pytest

from locvlm.benchmarks.report.kept import ORDER, describe, read_kept

MACHINE = {"cpu": "Intel(R) Xeon(R) Processor", "cores": 2, "packages": {"torch": "2.13.0+cpu"}}
ROW = {"what": "a step", "figure": 4.0, "unit": "times as fast", "than": "separate"}


def write(folder, name, **changes):
    (folder / name).write_text(json.dumps({"machine": MACHINE, "headline": [ROW], **changes}))


def test_files_come_in_the_order_of_the_tables_and_those_without_headline_not(tmp_path):
    curve = {"title": "Rows", "x": "tokens", "y": "s", "lines": {"sdpa": [[1, 2.0]]}}
    write(tmp_path, "startup_2cores_xeon.json")
    write(tmp_path, "growth_rows_2cores_xeon.json", curve=curve)
    write(tmp_path, "attention_2cores_xeon.json")
    write(tmp_path, "attention_2cores_epyc.json", headline=[])
    found = read_kept(tmp_path)
    assert [one.name for one in found] == ["attention", "growth", "startup"]
    assert found[1].curve.at("sdpa", 1) == 2.0
    assert found[0].headline[0].goal is None


def test_a_machine_in_words():
    assert describe(MACHINE) == "2 cores of Intel Xeon Processor, torch 2.13.0"
    assert describe({"gpu": "NVIDIA H100", "cores": 8}) == "NVIDIA H100"
    assert describe({"cpu": "AMD EPYC", "cores": 1}) == "1 core of AMD EPYC"


def test_a_name_without_machine_and_an_unknown_key_are_refused(tmp_path):
    write(tmp_path, "attention_2cores.json", headline=[{**ROW, "figures": 1}])
    with pytest.raises(ValueError, match=r"attention_2cores\.json: expected a headline with keys"):
        read_kept(tmp_path)
    (tmp_path / "attention_2cores.json").rename(tmp_path / "attention.json")
    with pytest.raises(ValueError, match="expected a name like"):
        read_kept(tmp_path)


def test_every_benchmark_has_its_place(repo_root):
    programs = {
        path.stem.removeprefix("benchmark_") for path in (repo_root / "scripts").glob("benchmark_*.py")
    }
    assert programs <= set(ORDER)
