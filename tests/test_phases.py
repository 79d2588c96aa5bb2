import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from locvlm.phases import Journal, Phase, PhaseFailed, run_phases

APPEND = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(exist_ok=True, parents=True)\n"
APPEND += "p.open('a').write(sys.argv[2])"


def appends(path: Path, text: str) -> list[str]:
    return ["-c", APPEND, str(path), text]


def fails() -> list[str]:
    return ["-c", "import sys; sys.exit(3)"]


def test_a_phase_that_stands_is_skipped_until_its_command_changes(tmp_path: Path) -> None:
    made = tmp_path / "a" / "made.txt"
    for _ in range(2):
        run_phases(
            [Phase(name="a", commands=[appends(made, "x")], makes=[made.parent])], tmp_path, root=tmp_path
        )
    assert made.read_text() == "x"
    run_phases([Phase(name="a", commands=[appends(made, "y")], makes=[made.parent])], tmp_path, root=tmp_path)
    assert made.read_text() == "y"


def test_a_change_runs_what_needs_it_again_and_nothing_else(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"

    def phases() -> list[Phase]:
        return [
            Phase(name="a", commands=[appends(tmp_path / "a", "a")], configs=["config.yaml"]),
            Phase(name="b", commands=[appends(tmp_path / "b", "b")], needs=["a"]),
            Phase(name="c", commands=[appends(tmp_path / "c", "c")]),
        ]

    for text in ("1", "2"):
        config.write_text(text)
        run_phases(phases(), tmp_path, root=tmp_path)
    assert [(tmp_path / name).read_text() for name in "abc"] == ["aa", "bb", "c"]


def test_a_phase_runs_again_when_a_binary_file_that_it_reads_changes(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    for content in (b"\xff\x00", b"\xff\x00", b"\xff\x01"):
        weights.write_bytes(content)
        phase = Phase(name="a", commands=[appends(tmp_path / "a", "x")], files=["weights.bin"])
        run_phases([phase], tmp_path, root=tmp_path)
    assert (tmp_path / "a").read_text() == "xx"


@pytest.mark.parametrize(("is_resumable", "left"), [(True, "xx"), (False, "x")])
def test_a_failed_phase_goes_on_or_starts_afresh(tmp_path: Path, is_resumable: bool, left: str) -> None:
    made = tmp_path / "made.txt"
    gate = ["-c", "import sys, pathlib; sys.exit(not pathlib.Path('gate').exists())"]
    phase = Phase(name="a", commands=[appends(made, "x"), gate], makes=[made], is_resumable=is_resumable)
    with pytest.raises(PhaseFailed, match="a failed with status 1; started again, it goes on there"):
        run_phases([phase], tmp_path, root=tmp_path)
    (tmp_path / "gate").touch()
    run_phases([phase], tmp_path, root=tmp_path)
    assert made.read_text() == left


def test_phases_after_a_failed_one_do_not_run(tmp_path: Path) -> None:
    phases = [Phase(name="a", commands=[fails()]), Phase(name="b", commands=[appends(tmp_path / "b", "b")])]
    with pytest.raises(PhaseFailed):
        run_phases(phases, tmp_path, root=tmp_path)
    assert not (tmp_path / "b").exists()


def test_seconds_add_up_over_starts_and_begin_anew_with_another_command(tmp_path: Path) -> None:
    wait = ["-c", "import time; time.sleep(0.2)"]
    with pytest.raises(PhaseFailed):
        run_phases([Phase(name="a", commands=[wait, fails()])], tmp_path, root=tmp_path)
    with pytest.raises(PhaseFailed):
        run_phases([Phase(name="a", commands=[wait, fails()])], tmp_path, root=tmp_path)
    assert Journal(tmp_path).seconds()["a"] >= 0.4
    run_phases([Phase(name="a", commands=[["-c", ""]])], tmp_path, root=tmp_path)
    assert Journal(tmp_path).seconds()["a"] < 0.4
    assert json.loads((tmp_path / "seconds.json").read_text()) == Journal(tmp_path).seconds()


def test_a_folder_in_use_is_refused_and_an_interrupt_ends_the_command(tmp_path: Path) -> None:
    body = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom locvlm.phases import Phase, run_phases\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"run_phases([Phase(name='a', commands=[['-c', {body!r}]])], Path.cwd(), root=Path.cwd())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    pid_file = tmp_path / "pid"
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ValueError, match="another process is at work"):
        run_phases([], tmp_path, root=tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    run_phases([], tmp_path, root=tmp_path)
