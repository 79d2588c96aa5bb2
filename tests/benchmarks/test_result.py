import argparse
from pathlib import Path

from locvlm.benchmarks.result import add_out_option, describe_machine, write_result
from locvlm.io import read_json


def test_a_result_tells_settings_and_machine_but_no_path_of_it(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/data"))
    add_out_option(parser)
    out = tmp_path / "new" / "result.json"
    args = parser.parse_args(["--model", str(tmp_path / "export"), "--out", str(out)])
    write_result(args, {"median_s": 1.5})
    content = read_json(out)
    assert content["settings"] == {"rounds": 3, "model": "export", "folder": "runs/data"}
    assert content["median_s"] == 1.5
    assert content["machine"]["cores"] >= 1
    assert str(tmp_path) not in out.read_text()


def test_without_a_file_nothing_is_written() -> None:
    write_result(argparse.Namespace(out=None), {"median_s": 1.5})


def test_a_cpu_has_no_gpu() -> None:
    machine = describe_machine("cpu")
    assert machine["gpu"] is None
    assert machine["threads"] >= 1
    assert "torch" in machine["packages"]
