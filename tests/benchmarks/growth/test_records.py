from locvlm.benchmarks.growth.records import shares_by_function


def test_shares_name_the_functions_that_take_the_time():
    def slow():
        return sum(number * number for number in range(200_000))

    shares = shares_by_function(slow)
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert any("genexpr" in name for name in shares)
    assert "everything else" in shares
