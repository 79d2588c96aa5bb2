"""data_builders/keyword_stats.py: the counts of the paper's appendix F over any file."""

import json
import subprocess
import sys

import pytest

STATS = "data_builders/keyword_stats.py"


@pytest.fixture
def llava(tmp_path):
    """Three conversations, one of two pairs, and a fourth that cannot be read."""

    def entry(name, *texts):
        roles = ["human", "gpt"] * len(texts)
        messages = [{"from": role, "value": text} for role, text in zip(roles, texts, strict=False)]
        return {"id": name, "conversations": messages}

    path = tmp_path / "llava.json"
    entries = [
        entry("a", "What is to the left?", "A dog.", "And right?", "On the right side, right there."),
        entry("b", "Who has the right of way?", "The bus is brightly lit."),
        entry("c", "Hello", "Hi."),
    ]
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def say(repo_root, tmp_path):
    """say(options): (status, what was printed, what was logged)."""

    def run(*arguments):
        command = [sys.executable, str(repo_root / STATS), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_conversations_pairs_and_messages_are_counted_apart(say, llava, tmp_path):
    status, table, _ = say(llava, "--out", "counts.json")
    assert status == 0
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["units"] == {"conversations": 3, "pairs": 4, "messages": 8}
    assert counts["phrases"]["left"] == {"conversations": 1, "pairs": 1, "messages": 1, "occurrences": 1}
    assert counts["phrases"]["right"] == {"conversations": 2, "pairs": 2, "messages": 3, "occurrences": 4}
    assert counts["phrases"]["right side"]["conversations"] == 1
    assert counts["read"]["kept"] == 3
    assert list(counts["sha256"]) == ["llava.json"]
    rows = {" ".join(line.split()[:2]): line for line in table.splitlines()}
    assert "1,619 (2.02%)" in rows["left 1"]
    assert "5,001 (6.25%)" in rows["right 2"]
    assert "1.13%" in rows["right 2"]


def test_other_words_inside_of_words(say, llava):
    _, table, _ = say(llava, "--keywords", "right", "--templates", "{}", "--inside-words")
    assert table.splitlines()[2].split()[:3] == ["right", "2", "(66.67%)"]
    assert table.splitlines()[2].split()[7] == "5"  # with brightly


def test_records_are_asked_as_an_epoch_asks_them(say, run, instances, tmp_path):
    run("data_builders/localize_instruct.py", "--instances", instances, "--out", "localize.jsonl")
    say("localize.jsonl", "--keywords", "image", "located", "--templates", "{}", "--out", "records.json")
    run("scripts/render_llava.py", "--records", "localize.jsonl", "--out", "llava_rendered.json")
    say(
        "llava_rendered.json",
        "--keywords",
        "image",
        "located",
        "--templates",
        "{}",
        "--out",
        "llava_counts.json",
    )
    ours, theirs = (json.loads((tmp_path / f).read_text()) for f in ("records.json", "llava_counts.json"))
    assert ours["phrases"] == theirs["phrases"]
    assert ours["units"] == theirs["units"]
    assert ours["phrases"]["located"]["occurrences"] > 0


def test_what_cannot_be_read_stops_it_unless_allowed(say, llava, tmp_path):
    entries = json.loads(llava.read_text())
    llava.write_text(json.dumps([*entries, {"id": "d", "conversations": [{"from": "gpt", "value": "Hi"}]}]))
    status, table, log = say(llava, "--out", "counts.json")
    assert (status, table) == (1, "")
    assert "dropped 1 of 4" in log
    assert not (tmp_path / "counts.json").exists()
    assert say(llava, "--max-dropped-fraction", 0.25)[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "it is empty"), ('{"images": []}', "got an object with images"), ("dog.jpg", "not valid JSON")],
)
def test_a_file_of_another_kind_is_refused(say, tmp_path, content, message):
    (tmp_path / "other").write_text(content)
    status, _, log = say("other")
    assert status == 1
    assert message in log.splitlines()[-1]


def test_a_template_without_a_place_for_the_word_is_refused(say, llava):
    status, _, log = say(llava, "--templates", "the")
    assert status == 1
    assert "a template holds {} once" in log
