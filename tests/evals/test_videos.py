"""Models of videos are shown whole ones by as many frames as they were made for; models of images refuse."""

from dataclasses import replace

import numpy as np
import pytest

from locvlm.evals.asking.answerable import answerable_by, require_answerable
from locvlm.evals.asking.ask import AskOptions, ask, windows
from locvlm.evals.asking.questions import read_questions
from locvlm.evals.asking.store import lacks_image
from locvlm.evals.bundle import Selection

NUM_FRAMES = 3


@pytest.fixture
def sees_videos(scripted):
    """A scripted answerer of videos, which notes the mean gray of every frame that it is shown."""

    class SeesVideos(scripted):
        num_frames = NUM_FRAMES

        def answer(self, asked, decoding):
            self.batches.append([len(item.questions) for item in asked])
            assert all(item.image is None for item in asked)
            self.shown += [[float(np.asarray(frame).mean()) for frame in item.frames] for item in asked]
            return [["red" for _ in item.questions] for item in asked]

    return SeesVideos(None)


@pytest.fixture
def folder(tmp_path, write_clip, video_questions):
    """Questions about a video of nine frames, one of a single frame, one cut off and one that is not here."""
    grays = [20 * k for k in range(1, 10)]
    write_clip(tmp_path / "v_a.mp4", [np.full((64, 96, 3), gray, dtype=np.uint8) for gray in grays])
    write_clip(tmp_path / "v_b.mkv", [np.full((64, 96, 3), 160, dtype=np.uint8)])
    whole = (tmp_path / "v_a.mp4").read_bytes()
    (tmp_path / "v_c.mp4").write_bytes(whole[: len(whole) // 2])
    video_questions(tmp_path, "abcda")
    return tmp_path


@pytest.fixture
def task(folder, video_task):
    return video_task(folder, shows="video")


def test_a_videos_questions_share_its_frames_and_unreadable_ones_are_told(
    task, folder, sees_videos, answers_to
):
    predictions = answers_to(task, folder, sees_videos)
    assert sees_videos.batches == [[2, 1]]
    middles = [40, 100, 160]  # of three equal parts of the nine
    assert sees_videos.shown == [
        [pytest.approx(gray, abs=3) for gray in middles],
        [pytest.approx(160, abs=3)] * NUM_FRAMES,  # the one frame, as often as the model wants frames
    ]
    by_id = {p.id: p for p in predictions}
    assert by_id["a/1"].answer == by_id["b/0"].answer == "red"
    assert by_id["a/0"].image == "v_a.mp4"
    for name, reason in (("c", "cut off|cannot be read"), ("d", "no such video")):
        assert lacks_image(by_id[f"{name}/0"])
        assert any(word in by_id[f"{name}/0"].failed for word in reason.split("|"))


def test_blank_and_shuffled_videos_have_as_many_frames(task, folder, sees_videos, answers_to):
    answers_to(task, folder, sees_videos, images="blank")
    assert all(len(set(frames)) == 1 and len(frames) == NUM_FRAMES for frames in sees_videos.shown)
    assert len(sees_videos.shown) == 4
    sees_videos.shown.clear()
    predictions = answers_to(task, folder, sees_videos, images="shuffled")
    assert sum(not p.failed for p in predictions) >= 2
    assert {len(frames) for frames in sees_videos.shown} == {NUM_FRAMES}


def test_a_model_of_images_is_asked_nothing_about_whole_videos(task, folder, scripted):
    answerer = scripted(lambda question, image: "red")
    questions = read_questions(folder / "q.json", task)
    with pytest.raises(ValueError, match="made for images alone"):
        list(ask(answerer, task, questions, AskOptions(image_root=folder)))
    assert not answerer.batches
    with pytest.raises(ValueError, match=r"task t shows whole videos: .*`shows: frame`"):
        require_answerable(answerer, task)


def test_of_a_bundle_a_model_of_images_is_asked_the_rest(task, scripted, sees_videos):
    frame = replace(task, name="t_frame", data=replace(task.data, shows="frame"))
    both = Selection(tasks=[task, frame], left_out={}, of_bundles=frozenset({"t", "t_frame"}))
    left = answerable_by(scripted(lambda question, image: "red"), both)
    assert [chosen.name for chosen in left.tasks] == ["t_frame"]
    assert "shows whole videos" in left.left_out["t"]
    assert answerable_by(sees_videos, replace(both, tasks=[task])).tasks == [task]
    by_itself = replace(both, of_bundles=frozenset())
    with pytest.raises(ValueError, match="shows whole videos"):
        answerable_by(scripted(lambda question, image: "red"), by_itself)


def test_few_videos_share_a_window_however_few_questions_each_has(task, folder, video_questions):
    video_questions(folder, [f"x{n:02}" for n in range(20)])
    questions = read_questions(folder / "q.json", task)
    assert [len(window) for window in windows(questions, 256)] == [8, 8, 4]
    assert [len(window) for window in windows(questions, 3)] == [3] * 6 + [2]
    frames = replace(task, data=replace(task.data, shows="frame"))
    assert [len(w) for w in windows(read_questions(folder / "q.json", frames), 256)] == [20]
