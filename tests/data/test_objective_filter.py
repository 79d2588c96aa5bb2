"""A source can ask some of its objectives alone, and nothing is dropped by that."""

import json

import pytest

from locvlm.data.mixture import Source
from locvlm.data.objective_filter import open_source
from locvlm.data.steps import open_sources
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.records import Query, Record

BOX = Box(1, 2, 3, 4)
QUERIES = {
    "locpred": Query(objective="locpred", phrase="dog", box_px=BOX),
    "negpred": Query(objective="negpred", phrase="cat"),
    "revloc": Query(objective="revloc", phrase="dog", box_px=BOX),
}


def record(name, *objectives):
    queries = tuple(QUERIES[objective] for objective in objectives)
    return Record(id=name, image="a.jpg", width=10, height=8, queries=queries)


@pytest.fixture
def path(tmp_path):
    records = [
        record("all", "revloc", "locpred", "negpred"),
        record("absent", "negpred"),
        record("found", "locpred", "revloc"),
    ]
    write_records(tmp_path / "records.jsonl", records)
    return tmp_path / "records.jsonl"


def read(path, objectives):
    dataset = open_source(Source(name="a", path=str(path), image_root="/images", objectives=objectives))
    items = [dataset[i] for i in range(len(dataset))]
    assert all(item.image == "/images/a.jpg" for item in items)
    return {item.id: tuple(query.objective for query in item.queries) for item in items}


def test_records_keep_the_queries_that_are_asked_in_their_order(path):
    assert read(path, ("locpred", "revloc")) == {"all": ("revloc", "locpred"), "found": ("locpred", "revloc")}
    assert read(path, ("negpred",)) == {"all": ("negpred",), "absent": ("negpred",)}


def test_without_the_setting_nothing_is_left_out(path):
    everything = {
        "all": ("revloc", "locpred", "negpred"),
        "absent": ("negpred",),
        "found": ("locpred", "revloc"),
    }
    assert read(path, None) == everything
    assert read(path, ("locpred", "negpred", "revloc")) == everything


def test_a_mixture_draws_the_records_that_have_something_to_ask_and_no_others(path):
    source = Source(name="a", path=str(path), objectives=("negpred",))
    (dataset,), mixture = open_sources([source], seed=0, conversations_per_step=4)
    assert mixture.epoch_draws == 2
    drawn = [dataset[draw.item] for draw in mixture.step(0)]
    assert {record.id for record in drawn} == {"all", "absent"}
    assert {query.objective for record in drawn for query in record.queries} == {"negpred"}


def test_an_objective_that_no_record_has_is_refused(path):
    with pytest.raises(ValueError, match=r"no record in .*records\.jsonl asks for vqa"):
        read(path, ("vqa",))


def test_a_record_that_cannot_be_read_is_told_to_whoever_draws_it(path):
    with open(path, "a") as file:
        file.write('{"id": "x", "image": null, "queries": [{"objective": "guess"}]}\n')
    dataset = open_source(Source(name="a", path=str(path), objectives=("negpred",)))
    assert len(dataset) == 3
    with pytest.raises(ValueError, match=r"records\.jsonl:4: .*unknown objective 'guess'"):
        dataset[2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "llava", "objectives": ("locpred",)}, "for kind llava"),
        ({"objectives": ()}, "name one or more"),
    ],
)
def test_a_choice_that_chooses_nothing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Source(name="a", path="a.json", **values)


def test_conversations_have_no_objectives_to_choose(tmp_path):
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    (tmp_path / "a.json").write_text(json.dumps([{"id": "c", "conversations": turns}]))
    with pytest.raises(ValueError, match="for kind llava"):
        open_source(Source(name="a", path=str(tmp_path / "a.json"), kind="llava", objectives=("vqa",)))
