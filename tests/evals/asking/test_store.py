import re
from dataclasses import replace

import pytest

from locvlm.evals.asking.store import (
    append_predictions,
    meta_path,
    open_predictions,
    predictions_path,
    read_meta,
    read_predictions,
    require_readable_images,
)
from locvlm.records import Prediction


def prediction(name: str) -> Prediction:
    return Prediction(
        id=name, record_id="r", image=None, question="Wo ist es, über dem Haus?", answer="(1)", gold={}
    )


def test_what_is_appended_is_read_back_and_kept_by_the_next_start(tmp_path, meta):
    path = predictions_path(tmp_path, "locpred", "real")
    assert open_predictions(path, meta) == []
    append_predictions(path, [prediction("a")])
    append_predictions(path, [prediction("b"), prediction("c")])
    assert open_predictions(path, meta) == read_predictions(path) == [prediction(name) for name in "abc"]
    assert read_meta(path) == meta


def test_a_torn_last_line_is_cut_off(tmp_path, meta):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    append_predictions(path, [prediction("a"), prediction("b")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert open_predictions(path, meta) == [prediction("a")]
    append_predictions(path, [prediction("b")])
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"fingerprint": "g"},
        {"records_sha256": "t"},
        {"seed": 1},
        {"decoding": "sampled"},
        {"contract": {"codec": "nfp"}},
    ],
)
def test_answers_of_another_making_are_not_continued(tmp_path, meta, change):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    [name] = change
    with pytest.raises(ValueError, match=f"was made with {name} = "):
        open_predictions(path, replace(meta, **change))


def test_folders_may_move_and_the_note_follows(tmp_path, meta):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    moved = replace(meta, checkpoint="/elsewhere", image_root="/there")
    assert open_predictions(path, moved) == []
    assert read_meta(path) == moved


def test_only_questions_without_a_readable_image_are_forgotten(tmp_path, meta):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    cut = replace(prediction("b"), failed="the crop frame cuts the object away")
    lost = replace(prediction("c"), failed="unreadable image: c.png: no such image")
    append_predictions(path, [prediction("a"), lost, cut])
    assert open_predictions(path, meta) == read_predictions(path) == [prediction("a"), cut]


def test_unreadable_images_are_counted_up_to_a_limit(tmp_path, meta, caplog):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    lost = replace(prediction("c"), failed="unreadable image: c.png: no such image")
    append_predictions(path, [prediction("a"), lost, prediction("b"), prediction("d")])
    root = tmp_path / "images"
    require_readable_images(path, image_root=root, max_dropped_fraction=0.25)
    assert "locpred: kept 3, dropped 1 (1 unreadable image); they count as wrong" in caplog.messages
    expected = rf"dropped 1 of 4 .*c \(c\.png: no such image\).*looked for in {re.escape(str(root))};"
    with pytest.raises(ValueError, match=expected):
        require_readable_images(path, image_root=root, max_dropped_fraction=0.24)


def test_each_image_mode_has_a_file_of_its_own(tmp_path):
    names = {predictions_path(tmp_path, "locpred", mode).name for mode in ("real", "blank", "shuffled")}
    assert names == {"locpred.jsonl", "locpred.blank.jsonl", "locpred.shuffled.jsonl"}


def test_an_id_answered_twice_names_file_and_lines(tmp_path, meta):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    append_predictions(path, [prediction("a"), prediction("b"), prediction("a")])
    with pytest.raises(ValueError, match=r"locpred\.jsonl:3 answers 'a' again, as line 1 did"):
        read_predictions(path)


def test_a_line_that_is_no_prediction_and_a_missing_note_are_errors(tmp_path, meta):
    path = predictions_path(tmp_path, "locpred", "real")
    open_predictions(path, meta)
    path.write_text('{"id": "a"}\n')
    with pytest.raises(ValueError, match=r"locpred\.jsonl:1 is not a prediction"):
        read_predictions(path)
    meta_path(path).unlink()
    with pytest.raises(ValueError, match="unknown origin"):
        open_predictions(path, meta)
    with pytest.raises(ValueError, match=r"run eval/run\.py again"):
        read_meta(path)
