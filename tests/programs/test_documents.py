"""Commands in documents and docstrings: the program is there, and knows every option."""

import argparse
import ast
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_ROOMS = ("eval", "data_builders", "scripts")  # those of train/ read a configuration: test_configs.py
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [path for room in PROGRAM_ROOMS for path in sorted((ROOT / room).glob("*.py"))]


class Parsed(Exception):
    """The command line was read."""


def commands(text: str) -> Iterator[str]:
    """Every `python PROGRAM ...` of the program rooms, continuation lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.match(rf"\s*(?:\$ )?python ((?:{'|'.join(PROGRAM_ROOMS)})/\w+\.py\b.*)", line)
        if found:
            yield found[1].split(" # ")[0].strip()


def in_document(path: Path) -> str:
    """The bash blocks of a document, or the docstring of a program."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


CASES = [
    pytest.param(command, id=f"{path.relative_to(ROOT)}: {command[:60]}")
    for path in [*DOCUMENTS, *PROGRAMS]
    for command in commands(in_document(path))
]


def test_there_are_commands_to_check():
    assert len(CASES) > 60


@pytest.mark.parametrize("command", CASES)
def test_a_program_knows_the_options_that_a_document_gives_it(command, monkeypatch):
    program, *arguments = shlex.split(command)
    whole, known = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args

    def parse_whole(self, *args, **more):
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", known)
        whole(self, *args, **more)  # exits at an option that it does not know
        raise Parsed

    def parse_known(self, *args, **more):  # the others are keys of a configuration
        known(self, *args, **more)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_whole)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known)
    monkeypatch.setattr("sys.argv", [program, *arguments])
    monkeypatch.chdir(ROOT)
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / program), run_name="__main__")


def test_an_option_that_does_not_exist_is_noticed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["merge.py", "a.jsonl", "--out", "b.jsonl", "--wrong", "1"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "data_builders/merge.py"), run_name="__main__")
    assert "--wrong" in capsys.readouterr().err
