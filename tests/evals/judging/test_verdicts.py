"""Verdicts on disk: kept apart by judge, read after a kill, written by one process."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from locvlm.evals.judging.rubric import Pair
from locvlm.evals.judging.verdicts import Judge, open_verdicts, read_verdicts, verdicts_folder

JUDGE = Judge(model="gpt", version="gpt/2024 07", rubric="video_qa 1 (0123abcd)", decoding="temperature 0")
PAIR = Pair("is it red?", "yes", "Ja, \u2028 rot.")


def write(folder, judge, *replies):
    with open_verdicts(folder, judge) as verdicts:
        for pair, reply in replies:
            verdicts.add(pair, reply)
    (path,) = (p for p in verdicts_folder(folder).glob("*.jsonl") if p.name.startswith(judge.name))
    return path


def test_replies_come_back_as_they_were_and_a_later_one_counts(tmp_path):
    other = PAIR._replace(prediction="no")
    path = write(tmp_path, JUDGE, (PAIR, "what?"), (other, "{}"))
    assert path.name == f"{JUDGE.name}.jsonl"
    assert JUDGE.name.startswith("gpt-2024-07.video_qa.")
    write(tmp_path, JUDGE, (PAIR, "{'pred': 'yes', 'score': 5}"))
    assert read_verdicts(tmp_path) == {JUDGE: {PAIR: "{'pred': 'yes', 'score': 5}", other: "{}"}}


@pytest.mark.parametrize("field", ["model", "version", "rubric", "decoding"])
def test_judges_that_differ_in_anything_have_files_of_their_own(tmp_path, field):
    other = replace(JUDGE, **{field: getattr(JUDGE, field) + "b"})
    write(tmp_path, JUDGE, (PAIR, "a"))
    write(tmp_path, other, (PAIR, "b"))
    assert read_verdicts(tmp_path) == {JUDGE: {PAIR: "a"}, other: {PAIR: "b"}}


def test_a_line_that_a_kill_tore_is_left_out_and_cut_off(tmp_path):
    path = write(tmp_path, JUDGE, (PAIR, "a"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"question": "is')
    assert read_verdicts(tmp_path) == {JUDGE: {PAIR: "a"}}
    write(tmp_path, JUDGE)
    assert path.read_bytes() == whole


def test_a_file_that_a_kill_left_without_its_first_line_is_begun_anew(tmp_path):
    path = write(tmp_path, JUDGE)
    path.write_bytes(b'{"judge": {"mod')
    assert read_verdicts(tmp_path) == {}
    write(tmp_path, JUDGE, (PAIR, "a"))
    assert read_verdicts(tmp_path) == {JUDGE: {PAIR: "a"}}


def test_two_processes_do_not_write_one_file(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from locvlm.evals.judging.verdicts import Judge, open_verdicts\n"
        "judge = Judge(**dict(zip(('model', 'version', 'rubric', 'decoding'), sys.argv[2:])))\n"
        "with open_verdicts(Path(sys.argv[1]), judge): print('opened')"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *asdict(JUDGE).values()]
    with open_verdicts(tmp_path, JUDGE):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another process is writing" in second.stderr
    assert second.stdout == ""
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "opened\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"question": "q"}], r":1: expected who judged"),
        ([{"judge": {"model": "gpt"}}], r":1: expected who judged"),
        ([{"judge": None}], r":1: expected who judged"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, lines, message):
    verdicts_folder(tmp_path).mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (verdicts_folder(tmp_path) / "a.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_verdicts(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    path = write(tmp_path, JUDGE, (PAIR, "a"))
    path.write_text(path.read_text() + '{"question": "q", "reply": "a"}\n')
    with pytest.raises(ValueError, match=r"\.jsonl:3: expected question, answer, prediction and reply"):
        read_verdicts(tmp_path)


def test_a_file_that_was_renamed_to_another_judges_name_is_refused(tmp_path):
    path = write(tmp_path, JUDGE, (PAIR, "a"))
    other = replace(JUDGE, version="b")
    path.rename(path.with_name(f"{other.name}.jsonl"))
    with pytest.raises(ValueError, match=r"holds the verdicts of .*move it away"):
        write(tmp_path, other)
