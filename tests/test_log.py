import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from locvlm.log import MetricsWriter, setup_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("locvlm", "__main__"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_rank_0_logs_what_happens_and_other_ranks_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("locvlm.data.loader")
    setup_logging(0)
    setup_logging(0)  # a second call does not log twice
    logger.info("rows: 3")
    logging.getLogger("some_library").info("chatter")
    assert capsys.readouterr().err.count("rows: 3") == 1
    setup_logging(2)
    logger.info("rows: 3")
    logger.warning("slow disk")
    text = capsys.readouterr().err
    assert "rows" not in text
    assert "[rank 2] locvlm.data.loader: slow disk" in text


def test_metrics_are_one_json_object_per_row(tmp_path: Path) -> None:
    metrics = MetricsWriter(tmp_path / "run" / "metrics.jsonl")
    metrics.write(step=1, loss=np.float32(0.5), name="a")
    metrics.write(step=2, loss=math.nan)
    rows = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 0.5, "name": "a"}, {"step": 2, "loss": None}]


def test_a_resumed_run_rewinds_its_metrics_and_drops_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    metrics = MetricsWriter(path)
    assert metrics.rewind(1) == 2
    metrics.write(step=2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
