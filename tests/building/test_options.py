import argparse

import pytest

from locvlm.building.options import add_build_options, first
from locvlm.shard import Shard


def test_the_command_line_says_what_is_wrong_with_a_shard(capsys):
    parser = argparse.ArgumentParser()
    add_build_options(parser)
    assert parser.parse_args(["--out", "a", "--shard", "3/16"]).shard == Shard(3, 16)
    with pytest.raises(SystemExit):
        parser.parse_args(["--out", "a", "--shard", "16/16"])
    assert "0/16 to 15/16; got '16/16'" in capsys.readouterr().err


def test_first_takes_all_without_a_limit():
    assert first(iter("abc"), None) == ["a", "b", "c"]
    assert first(iter("abc"), 2) == ["a", "b"]
