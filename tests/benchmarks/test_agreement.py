import math

import pytest
import torch

from locvlm.benchmarks.agreement import Difference, Outcome, difference, require_agreement


def outcome(loss: float, *gradients: list[float]) -> Outcome:
    return Outcome(loss, {f"p{k}": torch.tensor(values) for k, values in enumerate(gradients)})


def test_the_gradient_that_differs_most_counts_by_its_length():
    plain = outcome(2.0, [3.0, 4.0], [10.0, 0.0])
    found = difference(outcome(2.2, [3.0, 4.5], [10.0, 0.5]), plain)
    assert found.loss == pytest.approx(0.1)
    assert found.gradients == pytest.approx(0.1)  # 0.5 of 5, rather than 0.5 of 10
    assert found.most == pytest.approx(0.1)


def test_a_short_gradient_is_held_against_the_longest():
    plain = outcome(1.0, [1000.0], [0.0])
    assert difference(outcome(1.0, [1000.0], [0.5]), plain).gradients == pytest.approx(0.5)


def test_a_nan_in_any_gradient_is_the_difference():
    plain = outcome(1.0, [1000.0], [1.0])
    assert math.isnan(difference(outcome(1.0, [1000.0], [float("nan")]), plain).gradients)


def test_a_way_without_one_of_the_gradients_is_an_error():
    with pytest.raises(ValueError, match="p1"):
        difference(outcome(1.0, [1.0]), outcome(1.0, [1.0], [1.0]))


@pytest.mark.parametrize("gap", [2e-5, float("nan")])
def test_more_than_rounding_stops_a_benchmark(gap):
    require_agreement("tree", Difference(1e-6, 9e-6), torch.float32)
    with pytest.raises(ArithmeticError, match="tree differs"):
        require_agreement("tree", Difference(0.0, gap), torch.float32)
