"""The page shows what was found, whatever the file holds."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from locvlm.building.auditing.images import Leak
from locvlm.building.auditing.page import audit_page
from locvlm.building.auditing.report import Audit
from locvlm.building.auditing.verdicts import Limits, verdicts_of
from locvlm.building.preview import LOCVLM_B

_VOID = {"meta", "img", "br", "link", "input", "hr"}


class _Nesting(HTMLParser):
    """Fails for an element that is closed where it is not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


@pytest.fixture
def audit_of(tally_of, tmp_path):
    """audit_of(rows): what the program finds out about them."""

    def audited(rows, name="a.jsonl", leaks=None):
        tally, read = tally_of(rows, name)
        verdicts, guess = verdicts_of(tally, read, Limits(), leaks=leaks, copies=None)
        return Audit(
            file=tmp_path / name, tally=tally, read=read, verdicts=verdicts, guess=guess, leaks=leaks
        )

    return audited


@pytest.fixture
def page_of(audit_of):
    """page_of(rows): the page, of whole elements."""

    def page(rows, root=None, **about):
        html = audit_page(audit_of(rows, **about), root, LOCVLM_B)
        nesting = _Nesting()
        nesting.feed(html)
        assert nesting.open == []
        return html

    return page


def test_a_page_tells_of_every_limit_and_plots(page_of, row):
    box = [10, 10, 30, 50]
    rows = [row(f"n{k}", ("locpred", "dog", box), ("negpred", "cat", None)) for k in range(3)]
    html = page_of([*rows, row("n4", ("locpred", "cow", [90, 10, 130, 50]))])
    assert "1 of 3 limits is broken." in html
    assert html.count('class="verdict missed"') == 1
    assert html.count('class="verdict met"') == 2
    assert "<title>dog: 3</title>" not in html  # classes are a list
    assert "<li><span>dog</span>" in html
    for title in (
        "By objective",
        "Side, as a fraction",
        "Where their centres are",
        "Words of what is absent",
    ):
        assert title in html
    assert "<title>locpred: 4</title>" in html


def test_what_a_file_says_is_no_part_of_the_page(page_of, row):
    evil = "<script>alert(1)</script>"
    rows = [row(evil, ("locpred", evil, [1, 1, 9, 9]), ("negpred", evil, None), image=f"{evil}.jpg")]
    html = page_of(rows, leaks=[Leak(file=evil, num_images=1, shared=(evil,))])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 5


def test_photographs_that_are_there_are_shown_and_others_are_not(page_of, row, tmp_path):
    (tmp_path / "images").mkdir()
    for folder in ("images", "."):
        Image.new("RGB", (100, 80), "red").save(tmp_path / folder / "n1.jpg")
    names = ["n1.jpg", "gone.jpg", "../n1.jpg"]
    rows = [row(f"r{k}", ("locpred", "dog", [1, 1, 9, 9]), image=name) for k, name in enumerate(names)]
    html = page_of(rows, tmp_path / "images")
    assert len(re.findall(r'src="data:image/jpeg;base64,', html)) == 1
    assert html.count("<code>r") == 3


def test_a_conversation_is_shown_with_its_photograph(page_of, conversation, tmp_path):
    Image.new("RGB", (100, 80), "red").save(tmp_path / "n1.jpg")
    entries = [conversation("c1", ("Who?", "A dog."), image="n1.jpg"), conversation("c2", ("Hello", "Hi."))]
    html = page_of(entries, tmp_path, name="a.json")
    assert "data:image/jpeg;base64," in html
    assert "<dt>Who?</dt><dd>A dog.</dd>" in html
    assert "No boxes" in html


def test_a_file_without_any_question_has_a_page(page_of, row):
    assert "Nothing to count" in page_of([row("n1")])


def test_leaks_are_named_only_where_images_can_be_known(page_of, row):
    leaks = [Leak(file="pope.json", num_images=20, shared=("coco 9",))]
    rows = [row("n1", ("negpred", "cat", None), image="000000000009.jpg")]
    assert "pope.json" in page_of(rows, leaks=leaks)
    assert "Images of evaluations</h2>" in page_of(rows, leaks=leaks)
    assert "Images of evaluations</h2>" not in page_of([row("000017")], leaks=leaks)


def test_the_same_file_gives_the_same_page(audit_of, row):
    rows = [row(f"n{k}", ("locpred", "dog", [1, 1, 9, 9]), ("negpred", "cat", None)) for k in range(60)]
    pages = {audit_page(audit_of(rows), None, LOCVLM_B) for _ in range(2)}
    assert len(pages) == 1
