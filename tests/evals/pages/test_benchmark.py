"""The tables' page: whole, of one file, and with every figure that Markdown has."""

import pytest

from locvlm.evals.pages.benchmark import MANY_GROUPS, render_page
from locvlm.evals.parse import Sides, Unreadable, YesNo
from locvlm.evals.reports.benchmark import build_benchmark
from locvlm.evals.reports.leakage import TrainedOn
from locvlm.evals.reports.tables import load_tables
from locvlm.geometry import Box


@pytest.fixture
def render(repo_root, tasks, read_page):
    """render(run, ...): the page of these runs, taken apart."""
    tables = load_tables(repo_root / "eval" / "tables")

    def make(*runs, examples=None, **options):
        benchmark = build_benchmark(runs, tables, list(tasks.values()), **options)
        return read_page(render_page(benchmark, examples=examples or {}))

    return make


@pytest.fixture
def rows(judged):
    """Twelve answers about six images, one of them unreadable."""
    return [
        judged(
            YesNo(n % 3 > 0) if n else Unreadable("both"),
            record=f"r{n}",
            image=f"COCO_val2014_{n // 2:012}.jpg",
            answer="yes" if n % 2 else "no",
        )
        for n in range(12)
    ]


def test_tables_with_figures_come_first_and_the_others_say_what_to_run(render, answered, rows):
    page = render(answered("mine", hal_coco=rows), answered("LLaVA <here>", hal_coco=rows[:6]))
    assert "1 of 41 figures of the paper’s tables, measured." in page.text
    before, after = page.text.split("Not run", 1)
    assert "Hal-COCO" in before
    assert "Table 9" not in before
    assert "pope_random, pope_popular, pope_adversarial" in after
    assert "https://cs.stanford.edu/people/dorarad/gqa" in after  # where to get the files
    assert "LLaVA <here>" in page.text
    assert page.of_class("ours")
    assert page.of_class("measured")


def test_the_page_asks_nothing_of_the_network_and_runs_nothing(render, answered, rows):
    page = render(answered("mine", hal_coco=rows), examples={"hal_coco": "examples/hal_coco.html"})
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["examples/hal_coco.html"]
    for tag, attrs in page.tags:
        assert tag not in {"script", "link", "iframe", "img"}
        assert "src" not in attrs


def test_counts_confusions_and_how_it_was_made_are_told(render, answered, rows):
    text = render(answered("mine", hal_coco=rows)).text
    assert "12 asked, 12 answered, 0 failed, 1 unreadable" in text
    assert "true: yes" in text
    assert "hal_coco, version" in text
    for told in ("greedy", "codec ivb, frame stretch", "val.jsonl", "runs/x"):
        assert told in text


def test_images_that_were_trained_on_have_a_row_and_a_column_of_their_own(render, answered, rows):
    trained_on = TrainedOn(files=(), keys=frozenset({"coco 0", "coco 1"}))
    page = render(answered("mine", hal_coco=rows), trained_on=trained_on)
    assert "4 questions are about images of the training set" in page.text
    assert "images not in the training set" in page.text
    assert page.of_class("wide") == ["div"]


def test_both_orders_of_pairs_are_shown(render, answered, judged):
    question = "Which side of {} is {} located?".format
    rows = [
        judged(Sides(("left",)), record=f"r{n}", question=question(*names), answer=side)
        for n, (names, side) in enumerate(((("a", "b"), "left"), (("b", "a"), "right")))
    ]
    text = render(answered("mine", coco_spatial_direct_horizontal=rows)).text
    assert "both orders of a pair: 0.0% of 1 pairs answered as opposites" in text
    assert "“left” both times" in text


def test_many_groups_are_a_list_and_few_a_table(render, answered, judged):
    def located(number):
        return [
            judged(Box(0, 0, 40, 40), record=f"r{n}", image=f"{n}.png", category=f"class {n}")
            for n in range(number)
        ]

    assert render(answered("mine", locpred=located(MANY_GROUPS))).of_class("classes") == []
    page = render(answered("mine", locpred=located(MANY_GROUPS + 1)))
    assert page.of_class("classes") == ["ul"]
    assert "class 12" in page.text
    assert "distance from the centre, by acc50" in page.text
