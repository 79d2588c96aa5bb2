"""Whatever a file holds, its entries are read as far as they can be, and the rest is counted."""

import json

import pytest

from locvlm.building.auditing.entries import (
    NO_AREA,
    NO_NUMBERS,
    OF_NO_FORM,
    OUTSIDE,
    UNREADABLE,
    Entry,
    files_of,
    is_image_key,
    is_video_key,
    read_audited,
)
from locvlm.building.shard_writer import write_tar
from locvlm.geometry import Box
from locvlm.io import Ledger
from locvlm.records import Query, Record, Sample, Turn


def read(path):
    ledger = Ledger("entries")
    return list(read_audited(path, ledger)), ledger


def test_records_are_read_from_lines_and_from_an_array(write, row):
    rows = [row("n1", ("locpred", "dog", [1, 2, 30, 40]), ("negpred", "cat", None)), row("n2")]
    expected = Record(
        id="n1",
        image="n1.jpg",
        width=100,
        height=80,
        queries=(
            Query(objective="locpred", phrase="dog", category="dog", box_px=Box(1, 2, 30, 40)),
            Query(objective="negpred", phrase="cat", category="cat"),
        ),
    )
    for name in ("a.jsonl", "a.json"):
        entries, ledger = read(write(name, rows))
        assert [entry.item for entry in entries] == [
            expected,
            Record(id="n2", image="n2.jpg", width=100, height=80),
        ]
        assert (ledger.num_kept, ledger.num_dropped) == (2, 0)


def test_conversations_are_read_from_an_array_and_from_lines(write, conversation):
    entries = [
        conversation("c1", ("What?", "A dog."), ("Sure?", "Yes."), image="coco/train2017/000000000009.jpg"),
        conversation("c2", ("Hello", "Hi.")),
        {"q": "Who runs?", "a": "A man.", "video_id": "v_1"},
    ]
    for name in ("a.json", "a.jsonl"):
        samples = [entry.item for entry in read(write(name, entries))[0]]
        assert samples[0].branches == (
            (Turn(question="What?", answer="A dog."), Turn(question="Sure?", answer="Yes.")),
        )
        assert [(sample.image, sample.video) for sample in samples] == [
            ("coco/train2017/000000000009.jpg", None),
            (None, None),
            (None, "v_1"),
        ]


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([1, 2, 3], NO_NUMBERS),
        ("1 2 3 4", NO_NUMBERS),
        ([1, 2, True, 4], NO_NUMBERS),
        ([30, 2, 10, 40], NO_AREA),
        ([10, 2, 10, 40], NO_AREA),
        ([100, 0, 120, 20], OUTSIDE),
        ([-30, 0, -1, 20], OUTSIDE),
    ],
)
def test_a_box_that_no_record_may_have_is_taken_out_and_told_of(write, row, box, fault):
    bad = row("n1", ("locpred", "dog", box), ("negpred", "cat", None), ("revloc", "cow", [1, 1, 5, 5]))
    (entry,), ledger = read(write("a.jsonl", [bad]))
    assert entry.box_faults == (fault,)
    assert [query.phrase for query in entry.item.queries] == ["cat", "cow"]
    assert ledger.num_kept == 1


def test_what_cannot_be_read_is_counted_by_reason_and_the_rest_is_read(tmp_path, row):
    good = json.dumps(row("n1", ("negpred", "cat", None)))
    bad = [
        '{"id": "torn", "image": ',
        "[1, 2]",
        json.dumps(row("n2", ("locpred", "dog", None))),  # without a box
        json.dumps(row("n3", ("negpred", "dog", [1, 1, 5, 5]))),  # with one
        json.dumps(row("n4", ("flies", "dog", None))),
        json.dumps(row("n5", ("locpred", "dog", [1, 1, 5, 5]), width=0)),
        good.replace("80", "NaN"),
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([good, *bad, "", good]))
    entries, ledger = read(path)
    assert [entry.item.id for entry in entries] == ["n1", "n1"]
    assert ledger.dropped == {UNREADABLE: 3, OF_NO_FORM: 4}
    assert f"{path}:2" in ledger.examples[UNREADABLE][0]


def test_an_array_is_read_past_entries_of_no_form(write, conversation):
    entries = [conversation("c1", ("Hello", "Hi.")), 7, {"id": "c2", "conversations": "none"}]
    path = write("a.json", entries)
    found, ledger = read(path)
    assert len(found) == 1
    assert ledger.dropped == {UNREADABLE: 1, OF_NO_FORM: 1}
    assert f"{path}: entry 1" in ledger.examples[UNREADABLE][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"[]", "it is empty"),
        (b"[1, 2]", "got int"),
        (b'[{"id": 1', "not valid JSON"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not valid JSON"),
        (b"dog.jpg\ncat.jpg\n", "not valid JSON"),
        (b'{"images": [], "annotations": []}', "got an object with images, annotations"),
        (b'{"images": [],\n "annotations": []}\n', "not valid JSON"),
        (b'{"id": "1", "question": "?", "answer": "yes"}\n', "got an object with id, question, answer"),
        (b'{"queries": 3, "id": "1", "image": null}\n', "queries must be list"),
    ],
)
def test_a_file_of_another_kind_is_refused_and_named(tmp_path, content, message):
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_file_of_which_a_hundred_entries_cannot_be_read_is_given_up(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("no JSON\n" * 10_000)
    ledger = Ledger("entries")
    with pytest.raises(ValueError, match="none of it can be read"):
        list(read_audited(path, ledger))
    assert ledger.num_dropped == 100


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("gone.jsonl", "gone.tar", "gone-*.tar"):
        with pytest.raises(ValueError, match=r"no such (file|shard).*|.*no such file"):
            read(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path)  # a folder


def test_shards_hold_records_conversations_and_captions(tmp_path, row, conversation):
    record = row("n1", ("locpred", "dog", [1, 2, 30, 40]), image="train/n1.jpg")
    talk = conversation("c1", ("What?", "A dog."), image="n2.jpg")
    write_tar(
        tmp_path / "00000.tar",
        [("000000.jpg", b"jpeg"), ("000000.json", json.dumps(record).encode())],
    )
    write_tar(tmp_path / "00001.tar", [("000001.jpg", b"jpeg"), ("000001.txt", b"a dog\n on  grass")])
    entries, _ = read(tmp_path / "{00000..00001}.tar")
    assert [(entry.item.id, entry.item.image) for entry in entries] == [
        ("n1", "train/n1.jpg"),
        ("000001", "000001.jpg"),
    ]
    assert entries[1].item.queries == (Query(objective="caption", answer="a dog on grass"),)
    assert [path.name for path in files_of(tmp_path / "*.tar")] == ["00000.tar", "00001.tar"]

    write_tar(tmp_path / "talk.tar", [("7.jpg", b"jpeg"), ("7.json", json.dumps(talk).encode())])
    (entry,), _ = read(tmp_path / "talk.tar")
    assert entry.item.branches == ((Turn(question="What?", answer="A dog."),),)


def test_a_shard_that_is_cut_off_is_refused(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b"jpeg"), ("1.txt", b"a dog")])
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:1200])
    with pytest.raises(ValueError, match=r"a\.tar.*cut off"):
        read(tmp_path / "a.tar")


def test_keys_say_which_images_are_the_same_and_which_can_be_known_again():
    def key(**shown):
        return Entry(Sample(id="1", image=None, branches=()) if not shown else Record(id="1", **shown)).key

    assert key(image="train2014/COCO_train2014_000000000009.jpg") == key(image="000000000009.jpg") == "coco 9"
    assert key(image="train/000017.jpg") != key(image="val/000017.jpg")
    assert key() == ""
    video = key(image=None, video="clips/v_1.mp4")
    assert is_video_key(video)
    assert is_image_key("coco 9")
    assert is_image_key(key(image="gqa/2370799.jpg"))
    assert not any(map(is_image_key, (video, key(image="000017.jpg"), key(), key(image="train/000017.jpg"))))
