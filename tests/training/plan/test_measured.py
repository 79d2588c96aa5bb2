from dataclasses import replace

import pytest

from locvlm.data.mixture import Source
from locvlm.io import write_json
from locvlm.model.lora import LoraSettings
from locvlm.training.arguments import DataConfig, ModelConfig, Stage2Config
from locvlm.training.plan.measured import FORMAT, closest, comparison, describe, read_measurements

SETUP = {"lora": None, "liger": False, "compiled": "no", "quantize": None, "optimizer": "bf16"}
WORKLOAD = {"checkpointing": False, "attention": "sdpa", "mode": "shared_prefix", "pairs": 8}


def case(name, *, share=0.5, stage="stage2", setup=(), workload=(), peak_memory_bytes=70_000_000_000):
    flops = 989e12 * share * 2.0
    return {
        "name": name,
        "stage": stage,
        "setup": SETUP | dict(setup),
        "workload": WORKLOAD | dict(workload),
        "executed_flops": flops,
        "median_step_s": 2.0,
        "executed_share": share,
        "estimated_bytes": 66e9,
        "peak_memory_bytes": peak_memory_bytes,
    }


CASES = [
    case("k8-sdpa"),
    case("k4-sdpa", share=0.4, workload={"pairs": 4}),
    case("k8-tree", share=0.6, workload={"attention": "tree"}),
    case("k8-checkpointing", share=0.55, workload={"checkpointing": True}),
    case("lora", share=0.3, setup={"lora": {"rank": 8}}),
    case("captions", share=0.45, stage="stage1", peak_memory_bytes=None),
]


@pytest.fixture
def measured(tmp_path):
    """measured(cases): as read from a file."""

    def read(cases=CASES):
        failed = {"name": "failed", "status": "does not fit"}
        content = {
            "format": FORMAT,
            "machine": {"gpu": "NVIDIA H200", "cpu": "x"},
            "peak_tflops": 989,
            "cases": [failed, *cases],
        }
        write_json(tmp_path / "gpu.json", content)
        return read_measurements([tmp_path / "gpu.json"])

    return read


def config(attention="sdpa", lora=None, **training):
    return Stage2Config(
        model=ModelConfig(checkpoint="x", attn_implementation=attention),
        data=DataConfig(
            sources=(Source(name="a", path="b"),), conversations_per_step=64, conversation="vicuna_v1"
        ),
        training=training,
        lora=lora,
    )


@pytest.mark.parametrize(
    ("run", "pairs", "name"),
    [
        (config(), 11, "k8-sdpa"),
        (config(), 3, "k4-sdpa"),
        (config("tree"), 4, "k8-tree"),
        (config(gradient_checkpointing=True), 4, "k8-checkpointing"),
        (config(lora=LoraSettings()), 8, "lora"),
    ],
)
def test_a_run_takes_the_share_of_the_case_that_is_most_like_it(measured, run, pairs, name):
    assert closest(measured(), run, stage="stage2", pairs=pairs).name == name


def test_without_a_case_of_its_stage_a_run_is_told_what_there_is(measured):
    with pytest.raises(ValueError, match=r"no timed case of stage1, only k8-sdpa"):
        closest(measured(CASES[:1]), config(), stage="stage1", pairs=1)


def test_the_table_holds_planned_against_measured_steps_of_the_stage(measured):
    found = measured()
    lines = comparison(found, found[0]).splitlines()
    assert len(lines) == 2 + 5
    assert lines[2].split() == ["k8-sdpa", "*", "989.0", "2.000", "2.000", "1.00", "66.0", "70.0"]
    # at 40% instead of 50%, a step of 0.8 as many operations takes as long: longer than planned
    assert lines[3].split()[1:5] == ["791.2", "1.600", "2.000", "1.25"]


def test_where_a_share_comes_from_says_whether_the_peak_is_another(measured):
    first = measured()[0]
    assert describe(first, peak_flops=989e12) == "measured: k8-sdpa on NVIDIA H200"
    assert describe(replace(first, peak_flops=312e12), peak_flops=989e12).endswith("whose peak is another")


def test_other_files_are_refused(tmp_path, measured):
    write_json(tmp_path / "other.json", {"cases": []})
    with pytest.raises(ValueError, match=r"other\.json is no result of scripts/benchmark_gpu\.py"):
        read_measurements([tmp_path / "other.json"])
    with pytest.raises(ValueError, match="no case was timed"):
        measured([])
