import pytest
import torch
from torch.nn import functional

from locvlm.benchmarks.growth.operators import REST, kind_of, shares_by_kind


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::copy_", "moving data"),
        ("aten::index_put_", "moving data"),
        ("aten::mul", REST),
    ],
)
def test_an_operator_belongs_to_a_kind(operator, kind):
    assert kind_of(operator) == kind


def test_what_runs_longest_has_the_largest_share():
    matrix = torch.randn(600, 600)
    shares = shares_by_kind(lambda: [matrix @ matrix for _ in range(5)])
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "matrix products"

    query = torch.randn(1, 4, 512, 64)
    shares = shares_by_kind(lambda: functional.scaled_dot_product_attention(query, query, query))
    assert max(shares, key=shares.get) == "attention"


def test_a_call_without_torch_is_refused():
    with pytest.raises(ValueError, match="no operator of torch ran"):
        shares_by_kind(lambda: None)
