import re
import shutil

import pytest

from locvlm.benchmarks.report.kept import read_kept
from locvlm.benchmarks.report.tables import fill, outside
from locvlm.benchmarks.result import TIMES_AS_FAST

DOCUMENTS = ("README.md", "docs/benchmarks.md")


@pytest.fixture(scope="module")
def kept(repo_root):
    found = read_kept(repo_root / "benchmarks" / "results")
    assert len(found) > 4
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_what_the_program_makes_of_the_kept_results(repo_root, kept, name):
    text = (repo_root / name).read_text(encoding="utf-8")
    assert fill(text, kept) == text, "run scripts/plot_benchmarks.py"


def test_no_figure_of_the_page_is_typed(repo_root):
    text = outside((repo_root / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(prose) > 1000
    measured = re.compile(r"\d+\.\d+|\d\s?%|\d[\d,]*\s(?:times|s|ms|MB|GB|MiB|GiB|samples|pairs/s)\b")
    assert not measured.findall(prose)


def test_every_benchmark_has_its_section(repo_root):
    text = (repo_root / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    programs = [path.stem for path in (repo_root / "scripts").glob("benchmark_*.py")]
    assert len(programs) > 6
    for program in programs:
        assert f"`scripts/{program}.py`" in text
        assert f"<!-- benchmark: {program.removeprefix('benchmark_')} -->" in text


def test_the_kept_plot_shows_every_ratio_with_a_goal_and_is_small(repo_root, kept):
    drawn = (repo_root / "docs" / "benchmarks.svg").read_text(encoding="utf-8")
    assert len(drawn) < 150_000
    ratios = [h for one in kept for h in one.judged if h.unit == TIMES_AS_FAST]
    titles = [one.curve.title for one in kept if one.curve is not None]
    assert ratios
    for words in [*(h.what for h in ratios), *titles]:
        assert words.split()[0] in drawn


def test_the_program_fills_documents_and_draws(repo_root, run, tmp_path):
    for name in DOCUMENTS:
        shutil.copy(repo_root / name, tmp_path)
    documents = [tmp_path / "README.md", tmp_path / "benchmarks.md"]
    before = [path.read_text(encoding="utf-8") for path in documents]
    plot = tmp_path / "new" / "plot.svg"
    run("scripts/plot_benchmarks.py", "--plot", plot, "--documents", *documents)
    assert [path.read_text(encoding="utf-8") for path in documents] == before
    assert plot.read_text(encoding="utf-8").startswith("<?xml")
    assert "times as fast" in plot.read_text(encoding="utf-8")
