"""Words are counted in conversations, pairs and messages apart."""

import pytest

from locvlm.building.auditing.keywords import TEMPLATES, as_table, count_keywords, phrases_of
from locvlm.records import Sample, Turn


def sample(*turns):
    return Sample(id="1", image=None, branches=(tuple(Turn(question=q, answer=a) for q, a in turns),))


SAMPLES = [
    sample(("Left or right?", "It is to the left."), ("Sure?", "Yes, the LEFT side, left.")),
    sample(("What is leftover?", "Brightly coloured rice.")),
    sample(("Who has the right of way?", "The bus.")),
]


def test_every_unit_is_counted_apart():
    counts = count_keywords(SAMPLES, phrases_of(["left", "right"]))
    assert counts.units == {"conversations": 3, "pairs": 4, "messages": 8}
    held = {
        phrase: (found["conversations"], found["pairs"], found["messages"])
        for phrase, found in counts.holding.items()
    }
    assert held == {
        "left": (1, 2, 3),  # not leftover
        "the left": (1, 2, 2),
        "left side": (1, 1, 1),
        "to the left": (1, 1, 1),
        "right": (2, 2, 2),  # not brightly
        "the right": (1, 1, 1),
        "right side": (0, 0, 0),
        "to the right": (0, 0, 0),
    }
    assert counts.occurrences == {
        **{"left": 4, "the left": 2, "left side": 1, "to the left": 1},
        **{"right": 2, "the right": 1},
    }


def test_inside_of_words_where_asked_for():
    counts = count_keywords(SAMPLES, ["left", "right"], inside_words=True)
    assert {phrase: found["conversations"] for phrase, found in counts.holding.items()} == {
        "left": 2,
        "right": 3,
    }


def test_white_space_between_words_does_not_matter_and_marks_are_marks():
    counts = count_keywords(
        [sample(("a", "to  the\nleft")), sample(("b", "to.the left"))], ["to the left", "a.b"]
    )
    assert counts.holding["to the left"]["pairs"] == 1
    assert counts.holding["a.b"]["pairs"] == 0


def test_branches_of_a_record_are_pairs_of_one_conversation():
    one = Sample(
        id="1",
        image=None,
        branches=((Turn(question="left", answer="a"),), (Turn(question="b", answer="left"),)),
    )
    counts = count_keywords([one], ["left"])
    assert counts.holding["left"] == {"conversations": 1, "pairs": 2, "messages": 2}


def test_phrases_are_every_keyword_in_every_template():
    assert phrases_of(["left"], TEMPLATES) == ["left", "the left", "left side", "to the left"]
    assert phrases_of(["a", "b", "a"], ["{}", "x {}"]) == ["a", "x a", "b", "x b"]


@pytest.mark.parametrize(
    ("keywords", "templates", "message"),
    [
        (["left"], ["the"], "a template holds"),
        (["left"], ["{} {}"], "a template holds"),
        ([" "], ["{}"], "a keyword is"),
    ],
)
def test_what_could_match_nothing_or_everything_is_refused(keywords, templates, message):
    with pytest.raises(ValueError, match=message):
        phrases_of(keywords, templates)


def test_the_papers_figures_stand_beside_ours():
    lines = as_table(count_keywords(SAMPLES, phrases_of(["left", "right"]))).splitlines()
    assert lines[2].split() == [
        *("left", "1", "(33.33%)", "2", "(50.00%)", "3", "(37.50%)", "4"),
        *("1,619", "(2.02%)", "0.37%"),
    ]
    assert lines[4].split()[:4] == ["left", "side", "1", "(33.33%)"]
    assert "5,001 (6.25%)" in lines[6]
    assert "1.13%" in lines[6]
    assert "80,000 (221,333 pairs)" in lines[1]


def test_the_papers_share_of_section_4_2_is_of_messages():
    # 1,619 and 5,001 of twice 221,333: what the paper says of "conversations" there
    assert round(1619 / (2 * 221_333), 4) == 0.0037
    assert round(5001 / (2 * 221_333), 4) == 0.0113


def test_other_words_have_no_figures_of_the_paper():
    table = as_table(count_keywords(SAMPLES, ["bus"]))
    assert "paper" not in table
    assert table.splitlines()[2].split() == ["bus", "1", "(33.33%)", "1", "(25.00%)", "1", "(12.50%)", "1"]


def test_nothing_at_all_is_counted_as_nothing():
    assert "0 (0.00%)" in as_table(count_keywords([], ["left"]))
