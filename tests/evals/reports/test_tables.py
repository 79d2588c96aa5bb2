"""The declared tables: read strictly, of declared tasks, the paper's own contradictions told rightly."""

import re

import pytest
import yaml

from locvlm.evals.pages.demo import PAPER_SPATIAL
from locvlm.evals.reports.tables import Measure, load_table, load_tables

VALUES = {
    "name": "table_1",
    "paper": "Table 1",
    "title": "Sides",
    "facts": ["zero-shot"],
    "columns": [
        {"title": "All", "task": "a", "metric": "side_accuracy"},
        {"title": "Left", "task": "a", "metric": "side_accuracy", "group": "side: left"},
    ],
    "sections": [{"rows": [{"model": "M", "facts": ["yes"], "figures": [45.5, None]}]}],
    "footnotes": [{"text": "Odd.", "models": ["M"], "columns": ["Left"]}],
}


@pytest.fixture
def load(tmp_path):
    """load(key=value, ...): the table above with other values."""

    def write(**values):
        (tmp_path / "table_1.yaml").write_text(yaml.safe_dump({**VALUES, **values}))
        return load_table(tmp_path / "table_1.yaml")

    return write


@pytest.fixture(scope="module")
def paper(request):
    """The tables of this repository, by name."""
    root = request.getfixturevalue("repo_root")
    return {table.name: table for table in load_tables(root / "eval" / "tables")}


def test_a_table_says_what_its_columns_measure(load):
    table = load()
    assert table.measures(table.sections[0]) == [
        Measure(task="a", metric="side_accuracy"),
        Measure(task="a", metric="side_accuracy", group="side: left"),
    ]
    assert table.tasks() == ["a"]


def test_a_section_may_ask_other_tasks(load):
    rows = VALUES["sections"][0]["rows"]
    table = load(sections=[{"rows": rows}, {"title": "ICL", "tasks": ["b", "b"], "rows": rows}])
    assert [measure.task for measure in table.measures(table.sections[1])] == ["b", "b"]
    assert table.tasks() == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"titel": "x"}, "unknown key 'titel'; did you mean 'title'"),
        ({"name": "table_2"}, "name the file table_2.yaml"),
        ({"columns": [{"title": "All", "task": "a", "metric": "acuracy"}]}, "unknown metric 'acuracy'"),
        ({"columns": [{"title": "All", "task": "a"}]}, "needs a metric, or not_here with the reason"),
        (
            {"columns": [{"title": "All", "task": "a", "metric": "acc50", "not_here": "x"}]},
            "needs a metric, or not_here",
        ),
        (
            {"columns": [{"title": "All", "task": "a", "metric": "acc50", "group": "sides: left"}]},
            "got 'sides: left'; breakdowns are",
        ),
        (
            {"sections": [{"rows": [{"model": "M", "facts": ["yes"], "figures": [1.0]}]}]},
            "M has 1 figures and 1",
        ),
        (
            {"sections": [{"rows": [{"model": "M", "figures": [1.0, 2.0]}]}]},
            "2 figures and 0 facts, expected 2 and 1",
        ),
        ({"sections": [{"title": "x", "tasks": ["b"], "rows": []}]}, "'x' names 1 tasks for 2 columns"),
        ({"columns": [{"title": t, "metric": "acc50"} for t in ("All", "Left")]}, "'All' has no task, nor"),
        (
            {"footnotes": [{"text": "Odd.", "models": ["N"]}]},
            "a footnote is about N, which is not in the table",
        ),
        (
            {
                "layout": "models side by side",
                "sections": [
                    {"rows": [{"model": name, "facts": ["no"], "figures": [1.0, 2.0]}]} for name in ("M", "N")
                ],
            },
            "the same models in one order",
        ),
    ],
)
def test_a_wrong_declaration_is_refused(load, values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(**values)


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no tables in .*--table-dir"):
        load_tables(tmp_path)


def test_every_task_of_the_paper_s_tables_is_declared_and_has_the_metric(paper, tasks):
    measures = [
        measure
        for table in paper.values()
        for section in table.sections
        for measure in table.measures(section)
        if measure is not None
    ]
    assert len(measures) > 50
    for measure in measures:
        assert measure.task in tasks, measure
        assert measure.metric in tasks[measure.task].metrics, measure


def test_every_table_that_is_an_evaluation_is_there(paper):
    assert [table.paper for table in paper.values()] == [f"Table {n}" for n in (2, *range(4, 13))]


def figures(table, model, section=0):
    [row] = [row for row in table.sections[section].rows if row.model == model]
    return row.figures


def test_the_rows_of_table_4_are_of_different_questions(paper):
    """The share of "left" that makes a row's "all" of its two sides."""
    shares = {}
    for model in ("BLIP-2", "LLaVA", "LocVLM-B"):
        everything, left, right, *_ = figures(paper["table_04"], model)
        shares[model] = (everything - right) / (left - right)
    assert shares == pytest.approx({"BLIP-2": 0.50, "LLaVA": 0.39, "LocVLM-B": 0.50}, abs=0.005)
    assert "39%" in paper["table_04"].footnotes[0].text


def test_the_demo_s_report_prints_the_figures_of_table_4(paper):
    direct, icl = (figures(paper["table_04"], "LocVLM-B", section) for section in range(2))
    assert [sum(axes, ()) for axes in PAPER_SPATIAL.values()] == [direct, icl]


def test_the_accuracies_of_table_9_do_not_follow_from_recall_and_yes(paper):
    """Half of the questions are yes, so accuracy = recall + 1/2 - the share of yes."""
    implied, printed = [], []
    for section in range(3):
        accuracy, _, recall, _, yes = figures(paper["table_09"], "LocVLM-B", section)
        implied.append(recall + 50 - yes)
        printed.append(accuracy)
    assert implied == pytest.approx([87.7, 85.0, 82.0])
    assert printed == [87.9, 86.0, 78.8]
    _, precision, recall, _, yes = figures(paper["table_09"], "LocVLM-B", 2)
    assert (recall / 2 / yes * 100, precision) == (pytest.approx(75.9, abs=0.05), 76.6)
    accuracy, _, recall, _, yes = figures(paper["table_09"], "Shikra", 0)
    right = recall * 1500 + (100 * 1410 - (yes * 2910 - recall * 1500))  # of 1,500 yes and 1,410 no, x 100
    assert right / 2910 == pytest.approx(accuracy, abs=0.1)
    text = paper["table_09"].footnotes[0].text
    assert all(number in text for number in ("87.7, 85.0 and 82.0", "87.9, 86.0 and 78.8", "75.9"))


def test_one_figure_is_printed_alike_in_all_tables(paper):
    ivb = paper["table_02"].sections[0].rows[1].figures
    assert (
        ivb == paper["table_11"].sections[0].rows[-1].figures == paper["table_11"].sections[1].rows[1].figures
    )
    assert figures(paper["table_06"], "LocVLM-Vid-B")[0] == ivb[2]
    assert figures(paper["table_07"], "LocVLM-B")[0] != ivb[2]  # what the footnotes of Tables 2 and 11 say
    assert paper["table_10"].sections[0].rows[-1].figures[3] == ivb[1]
