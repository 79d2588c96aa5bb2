import json
import pickle

import numpy as np
import pytest

from locvlm.data.dataset import FileDataset, JsonObjects
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.records import Query, Record


def record(number, image="a.jpg"):
    query = Query(objective="locpred", phrase=f"dög {number}", box_px=Box(1, 2, 3, 4))
    return Record(id=f"r{number}", image=image, width=10, height=8, queries=(query,))


def conversation(number, **values):
    turns = [{"from": "human", "value": '<image>\nWhat {is} "it"?'}, {"from": "gpt", "value": "A [dög] \\"}]
    return {"id": f"c{number}", "image": "x/a.jpg", "conversations": turns, **values}


@pytest.fixture
def records_file(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(path, [record(i) for i in range(5)])
    return path


def test_records_come_back_in_any_order_with_images_under_their_root(records_file):
    dataset = FileDataset(records_file, image_root="/images")
    assert len(dataset) == 5
    assert [dataset[i].id for i in (3, 0, 4)] == ["r3", "r0", "r4"]
    assert dataset[2].queries == record(2).queries
    assert dataset[2].image == "/images/a.jpg"


def test_blank_lines_and_a_missing_last_newline_do_not_matter(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"n": 1}\n   \n\n  {"n": 2}  \r\n{"n": 3}')
    objects = JsonObjects(path)
    assert [objects[i]["n"] for i in range(len(objects))] == [1, 2, 3]


def test_memory_is_two_numbers_per_record(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"n": n, "text": "x" * 1000}) + "\n" for n in range(1000)))
    objects = JsonObjects(path)
    assert objects.spans.shape == (1000, 2)
    assert len(pickle.dumps(objects)) < 20_000
    assert objects[997]["n"] == 997


def test_a_dataset_survives_pickling(records_file):
    dataset = FileDataset(records_file)
    dataset[0]
    assert pickle.loads(pickle.dumps(dataset))[3] == dataset[3]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_llava_arrays_are_read_as_they_are(tmp_path, indent, ensure_ascii):
    path = tmp_path / "llava.json"
    rows = [conversation(i) for i in range(4)]
    rows[2].pop("image")  # text-only
    rows[2]["conversations"][0]["value"] = "Hello"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ensure_ascii), encoding="utf-8")
    dataset = FileDataset(path, image_root="root", kind="llava")
    assert [JsonObjects(path)[i] for i in range(4)] == rows
    assert [dataset[i].id for i in range(4)] == ["c0", "c1", "c2", "c3"]
    assert dataset[1].image == "root/x/a.jpg"
    assert dataset[2].image is None
    assert dataset[0].branches[0][0].answer == "A [dög] \\"


def test_llava_lines_are_the_same_as_an_array(tmp_path):
    rows = [conversation(i) for i in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    array, lines = (FileDataset(tmp_path / name, kind="llava") for name in ("a.json", "a.jsonl"))
    assert [array[i] for i in range(3)] == [lines[i] for i in range(3)]


def test_spans_of_brackets_and_quotes_inside_of_strings_are_right(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"t": "".join(rng.choice(list('[]{}"\\,: \nä😀'), size=20)), "deep": [{"a": [n]}]} for n in range(200)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    objects = JsonObjects(path)
    assert [objects[i] for i in range(len(objects))] == rows


@pytest.mark.parametrize("text", ["", "\n \n", "[]", " [ ] "])
def test_an_empty_data_set_is_refused_by_name(tmp_path, text):
    path = tmp_path / "nothing.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"nothing.json is empty"):
        FileDataset(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no such data file: .*gone\.jsonl"):
        FileDataset(tmp_path / "gone.jsonl")


def test_an_unknown_kind_is_refused(records_file):
    with pytest.raises(ValueError, match="expected one of records, llava"):
        FileDataset(records_file, kind="csv")


@pytest.mark.parametrize("line", ['{"id": "r1", "image"', "not json", '["a"]', "3"])
def test_a_line_that_is_no_object_is_found_on_opening(tmp_path, line):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"n": 0}}\n\n{line}\n{{"n": 2}}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl:3: expected one complete JSON object"):
        JsonObjects(path)


def test_a_malformed_line_is_named_on_reading(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"n": 0}\n\n{"n": }\n')
    objects = JsonObjects(path)
    assert objects[0] == {"n": 0}
    with pytest.raises(ValueError, match=r"bad.jsonl:3: not valid JSON"):
        objects[1]


def test_a_record_with_an_unknown_objective_is_named(records_file):
    with open(records_file, "a") as file:
        file.write('{"id": "x", "image": null, "queries": [{"objective": "guess"}]}\n')
    with pytest.raises(ValueError, match=r"records.jsonl:6: .*unknown objective 'guess'"):
        FileDataset(records_file)[5]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("records", {"image": None, "queries": [{"objective": "negpred", "phrase": "cat"}]}),
        (
            "llava",
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "A cat."}]},
        ),
    ],
)
def test_what_is_about_a_video_is_not_taken_for_text(tmp_path, kind, row):
    path = tmp_path / "videos.jsonl"
    path.write_text(json.dumps({"id": "v", "video": "v.mp4", **row}) + "\n")
    data = FileDataset(path, kind=kind)
    with pytest.raises(ValueError, match=r"videos\.jsonl:1: .*'v\.mp4'; video records are for stage 3"):
        data[0]


def test_a_row_of_video_instruct_is_not_taken_for_text_either(tmp_path):
    path = tmp_path / "instruct.json"
    path.write_text(json.dumps([{"q": "What?", "a": "A cat.", "video_id": "v_1"}]))
    with pytest.raises(ValueError, match=r"'v_1'; video records are for stage 3"):
        FileDataset(path, kind="llava")[0]


def test_videos_are_taken_where_there_is_a_root_for_them(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v_1.mkv").touch()
    rows = {
        "records": {
            "id": "v",
            "image": None,
            "video": "v_1.mkv",
            "queries": [{"objective": "negpred", "phrase": "cat"}],
        },
        "llava": {"q": "What?", "a": "A cat.", "video_id": "v_1"},
    }
    for kind, row in rows.items():
        path = tmp_path / f"{kind}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        item = FileDataset(path, kind=kind, video_root=tmp_path / "videos")[0]
        assert (item.image, item.video) == (None, str(tmp_path / "videos" / "v_1.mkv"))
    with pytest.raises(ValueError, match="video_root: no folder"):
        FileDataset(path, kind="llava", video_root=tmp_path / "nowhere")


def test_an_image_outside_of_its_root_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    write_records(path, [record(0), record(1, image="../../etc/passwd")])
    with pytest.raises(ValueError, match=r"a.jsonl:2: .*stay inside its root"):
        FileDataset(path, image_root=tmp_path)[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"n": 1},\n {"n": 2}', r"cut.json:2: a bracket does not close"),
        ('[{"n": 1},\n "two"]', r"cut.json:2: expected an array of objects, got '\"two\"'"),
        ('[{"n": 1},\n [2]]', r"cut.json:2: expected an array of objects"),
    ],
)
def test_a_damaged_array_is_found_on_opening(tmp_path, text, message):
    path = tmp_path / "cut.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        JsonObjects(path)


def test_a_malformed_element_is_named_by_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[\n{"n": 1},\n{"n": }\n]')
    with pytest.raises(ValueError, match=r"a.json:3: not valid JSON"):
        JsonObjects(path)[1]
