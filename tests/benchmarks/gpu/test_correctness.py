import torch

from locvlm.benchmarks.gpu import correctness
from locvlm.benchmarks.gpu.cases import Workload
from locvlm.model import locvlm

CPU = torch.device("cpu")


def test_every_path_that_is_here_agrees_with_dense_sdpa():
    found = {(agreement.path, agreement.dtype): agreement for agreement in correctness.check_paths(CPU)}
    for path in ("sdpa", "separate", "tree"):
        for dtype in ("fp32", "bf16"):
            assert found[path, dtype].status == "ok", found[path, dtype]
    if not torch.cuda.is_available():
        assert found["flex_attention", "fp32"].status == "not here"
    assert not correctness.wrong_paths(list(found.values()))


def test_a_kernel_that_lets_branches_see_each_other_is_found(monkeypatch):
    honest = locvlm.lay_out_trees
    monkeypatch.setattr(
        locvlm, "lay_out_trees", lambda samples, branches: honest(samples, branches.clamp(max=1))
    )
    found = correctness.check_paths(CPU)
    assert correctness.wrong_paths(found) == {"tree"}
    assert [agreement.dtype for agreement in found if agreement.status == "wrong"] == ["fp32", "bf16"]


def test_a_workload_takes_one_of_the_compared_paths():
    assert correctness.path_of(Workload(attention="tree")) == "tree"
    assert correctness.path_of(Workload(mode="separate")) == "separate"
    assert (
        correctness.path_of(Workload(mode="separate", attention="flex_attention"))
        == "separate flex_attention"
    )
