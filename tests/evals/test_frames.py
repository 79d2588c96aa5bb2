"""Models of images are asked about the middle frame of each video; as images, videos are refused."""

from dataclasses import replace

import numpy as np
import pytest

from locvlm.evals.asking.questions import read_questions
from locvlm.evals.asking.store import lacks_image
from locvlm.evals.task import TaskData
from locvlm.io import write_records
from locvlm.records import Query, Record


@pytest.fixture
def folder(tmp_path, write_clip, video_questions):
    """Questions about two videos of three frames, the middle ones gray 60 and 160, and about one not here."""
    for name, gray in (("v_a.mkv", 60), ("v_b.mp4", 160)):
        write_clip(tmp_path / name, [np.full((64, 96, 3), gray + d, dtype=np.uint8) for d in (-50, 0, 50)])
    video_questions(tmp_path, "abca")
    return tmp_path


@pytest.fixture
def task(folder, video_task):
    return video_task(folder, shows="frame")


def test_a_videos_questions_share_its_middle_frame_and_a_missing_one_is_told(
    task, folder, scripted, answers_to
):
    answerer = scripted(lambda question, image: "red")
    predictions = answers_to(task, folder, answerer)
    assert [p.id for p in predictions] == ["a/0", "a/1", "b/0", "c/0"]
    assert answerer.shown == [pytest.approx(60, abs=3), pytest.approx(160, abs=3)]  # coding costs a little
    assert answerer.batches == [[2, 1]]
    assert [p.answer for p in predictions] == ["red", "red", "red", ""]
    assert "no such video" in predictions[-1].failed
    assert lacks_image(predictions[-1])
    assert predictions[0].image == "v_a.mp4"
    assert predictions[0].gold["source"]["question"] == "what is 0"


def test_shuffled_frames_are_those_of_other_videos_and_blank_ones_show_nothing(
    task, folder, scripted, answers_to
):
    answerer = scripted(lambda question, image: "red")
    answers_to(task, folder, answerer, images="shuffled")
    assert len(answerer.shown) == 2  # the third video is one of the others' stand-ins
    answerer = scripted(lambda question, image: "red")
    assert all(p.answer == "red" for p in answers_to(task, folder, answerer, images="blank"))
    assert len(set(answerer.shown)) == 1


def test_a_video_is_no_image(task, folder):
    whole = replace(task, data=replace(task.data, shows="image"))
    with pytest.raises(ValueError, match=r"is about the video 'v_a.mp4'.*`shows: frame`"):
        read_questions(folder / "q.json", whole)


@pytest.mark.parametrize("shows", ["frame", "video"])
def test_an_image_has_no_frames(task, folder, shows):
    query = Query(objective="vqa", question="?", answer="red")
    write_records(folder / "images.jsonl", [Record(id="r", image="r.jpg", queries=(query,))])
    still = replace(task, data=TaskData(file="images.jsonl", objective="vqa", shows=shows))
    with pytest.raises(ValueError, match=r"'r' is about no video, got image 'r\.jpg'"):
        read_questions(folder / "images.jsonl", still)
