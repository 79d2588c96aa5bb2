import pytest

from locvlm.benchmarks.gpu.cases import SIZES, chosen, config_of, list_groups
from locvlm.benchmarks.gpu.estimates import estimate, parameters_of, plan_lines, state_bytes
from locvlm.training.plan.machines import GPUS

H100 = {"memory_bytes": GPUS["h100-80g"].memory_bytes, "rounds": 4, "peak_flops": 989e12}
GROUPS = list_groups(["l", "b"])


def test_names_are_unique_and_liger_whose_kernels_stay_comes_last():
    names = [f"{setup.name}/{workload.name}" for setup, workloads in GROUPS for workload in workloads]
    assert len(names) == len(set(names)) > 50
    is_liger = [setup.liger for setup, _ in GROUPS]
    assert is_liger == sorted(is_liger)
    assert sum(is_liger) == 2


def test_patterns_choose_cases_and_one_that_fits_none_is_an_error():
    kept = chosen(GROUPS, ["l-stage2-adamw_bf16/k8-*"])
    assert [setup.name for setup, _ in kept] == ["l-stage2-adamw_bf16"]
    assert {workload.pairs for workload in kept[0][1]} == {8}
    with pytest.raises(ValueError, match="fits no case; --plan lists them"):
        chosen(GROUPS, ["l-stage3*"])


def test_states_of_a_7b_model_are_counted_in_bytes_a_parameter():
    for setup, _ in GROUPS:
        trained = sum(part.trained for part in parameters_of(setup).values())
        total = sum(part.total for part in parameters_of(setup).values())
        if setup.lora is None and setup.stage == "stage2":
            # weights 2, gradients 2, states; the rest of the weights is frozen
            per_trained = 4 + {"fp32": 12, "bf16": 4, "8bit": 2}[setup.optimizer]
            assert state_bytes(setup) == per_trained * trained + 2 * (total - trained)


def test_fp32_states_do_not_fit_into_80_gb_and_smaller_ones_do():
    by_name = {setup.name: (setup, workloads[0]) for setup, workloads in GROUPS}
    fp32 = estimate(*by_name["l-stage2-adamw_fp32"], SIZES, **H100)
    bf16 = estimate(*by_name["l-stage2-adamw_bf16"], SIZES, **H100)
    eight = estimate(*by_name["l-stage2-adamw_8bit"], SIZES, **H100)
    assert fp32.largest_rows == 0
    assert fp32.needed_bytes > 110e9
    assert 1 <= bf16.largest_rows < eight.largest_rows


def test_the_plan_says_what_fits_and_how_long_all_takes():
    lines = plan_lines(chosen(GROUPS, ["l-stage2-adamw_fp32/*", "l-stage2-adamw_8bit/*"]), SIZES, **H100)
    assert sum("does not fit" in line for line in lines) == 2
    assert lines[-1].startswith("about ")


def test_one_row_holds_the_longest_conversation_of_every_variant():
    for name in ("l", "b", "toy"):
        assert config_of(name).text_config.max_position_embeddings >= 1024
