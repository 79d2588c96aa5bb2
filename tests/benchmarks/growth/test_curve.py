import pytest

from locvlm.benchmarks.growth.curve import Curve


def curve(**changes):
    values = {"title": "Rows", "x": "tokens", "y": "s", "lines": {"sdpa": [(1, 2.0), (4, 8.0)]}}
    return Curve(**{**values, **changes})


def test_points_and_ends_of_a_line():
    assert curve().at("sdpa", 4) == 8.0
    assert curve().ends("sdpa") == (1, 4)
    assert Curve(**curve().to_json()) == curve()


def test_the_table_has_a_line_each_and_the_shares():
    told = curve(shares={"sdpa, 4": {"attention": 0.75, "everything else": 0.25}}).table()
    assert told[1].split() == ["sdpa", "1:", "2", "4:", "8"]
    assert "attention 75%, everything else 25%" in told[2]


@pytest.mark.parametrize("line", [[], [(4, 1.0), (1, 2.0)], [(1, 1.0), (1, 2.0)]], ids=str)
def test_a_line_without_growing_points_is_refused(line):
    with pytest.raises(ValueError, match="sdpa needs points of growing x"):
        curve(lines={"sdpa": line})
