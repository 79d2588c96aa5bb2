"""Steps that stages share, one at a time; tests/programs runs whole stages."""

import logging
from types import SimpleNamespace

import pytest

from locvlm.io import Ledger, read_json
from locvlm.runs import RunFolder
from locvlm.training.stages import finish


@pytest.mark.parametrize(("num_cut", "num_warnings"), [(0, 0), (3, 1)])
def test_queries_that_the_frame_cuts_are_reported_at_the_end(tmp_path, caplog, num_cut, num_warnings):
    ledger = Ledger("training data")
    ledger.keep(5)
    saved = []
    loader = SimpleNamespace(ledger=ledger, num_left_out=num_cut)
    with caplog.at_level(logging.WARNING):
        finish(SimpleNamespace(save_complete=saved.append), RunFolder(path=tmp_path), loader)
    dropped = read_json(tmp_path / "dropped.json")
    assert dropped["queries_cut_by_frame"] == num_cut
    assert [rank["kept"] for rank in dropped["by_rank"]] == [5]
    warnings = [r.getMessage() for r in caplog.records if "the frame cuts" in r.getMessage()]
    assert len(warnings) == num_warnings
    assert all(text.startswith("3 queries were not asked") for text in warnings)
    assert saved == ["final"]
