"""What the demo's report says about clips, on answers written by hand."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from locvlm.evals.asking.store import append_predictions, open_predictions, predictions_path
from locvlm.evals.pages.demo import render_page
from locvlm.evals.reports.demo import collect
from locvlm.evals.reports.demo_figures import DEMO_TASKS
from locvlm.evals.reports.demo_video import (
    PHASES,
    choose_clips,
    collect_video,
    commonest_shares,
    count_met,
    flat_video_scores,
    minutes_of,
    video_table,
)
from locvlm.records import Prediction

HIT, FAR = "It is located at (11, 11, 34, 56)", "It is located at (60, 60, 100, 100)"
ABSENT = "There is no such object in the image"


@pytest.fixture
def run(tmp_path, write_clip, tasks, meta):
    """A run folder: images in stage 2; clips in stage 3, whole, and in stage 2, by their middle frames."""
    (tmp_path / "videos").mkdir()
    for k in (1, 2):  # the first one's file is gone
        pictures = [np.full((100, 200, 3), 8 * i, np.uint8) for i in range(16)]
        write_clip(tmp_path / "videos" / f"{k}.mp4", pictures)
    folder = tmp_path / "demo"
    meta = replace(meta, image_root=str(tmp_path / "videos"))

    def answer(where, task, texts, objective, answers=("", "", ""), images="real"):
        gold = {
            "objective": objective,
            "phrase": "mug",
            "category": "mug",
            "box_px": [20, 10, 60, 50] if objective in ("locpred", "revloc") else None,
            "width": 200,
            "height": 100,
            "overlap_fraction": 0.0,
        }
        path = predictions_path(folder / where, task, images)
        version = tasks[task].version
        open_predictions(path, replace(meta, task=task, version=version, num_questions=3, images=images))
        rows = [
            Prediction(
                id=f"{k}.mp4/0", record_id=f"{k}.mp4", image=f"{k}.mp4", question=f"{task} {k}?", answer=text,
                gold={**gold, "answer": answers[k], "source": {"question_type": "what moves"}},
            )
            for k, text in enumerate(texts)
        ]  # fmt: skip
        append_predictions(path, rows)

    answer("eval/stage2", "locpred", [HIT] * 3, "locpred")
    answer("eval_video/stage3", "video_locpred", [HIT, HIT, ABSENT], "locpred")
    answer("eval_video/stage3", "video_absent", [ABSENT] * 3, "negpred")
    answer("eval_video/stage3", "video_revloc", ["There is a mug.", "a bus", "mug"], "revloc")
    said = ["duck", "<b>up</b>", "Nothing."]
    answer("eval_video/stage3", "video_qa", said, "vqa", ("duck", "tree", "nothing"))
    answer("eval_video/stage2", "video_locpred_frame", [HIT, FAR, FAR], "locpred")
    answer("eval_video/stage2", "video_qa_frame", ["a"] * 3, "vqa", ("duck", "tree", "nothing"))
    answer("eval_video/stage3", "video_locpred", [HIT, FAR, FAR], "locpred", images="blank")
    answer("eval_video/stage3", "video_locpred", [FAR] * 3, "locpred", images="shuffled")
    answer("eval_export/checkpoint", "video_locpred", [HIT, HIT, ABSENT], "locpred")
    answer("eval_export/video", "video_locpred", [HIT, HIT, FAR], "locpred")
    return folder


@pytest.fixture
def video(run, tasks):
    return collect_video(run, list(tasks.values()))


def test_the_video_model_s_figures_stand_beside_the_image_model_s(video):
    flat = flat_video_scores(video)
    third = 1 / 3
    assert flat == {
        "video_locpred_acc50": pytest.approx(2 * third),
        "video_locpred_acc50_frame": pytest.approx(third),
        "video_locpred_acc50_blank": pytest.approx(third),
        "video_locpred_acc50_shuffled": 0,
        "video_locpred_miou_blank": pytest.approx(flat["video_locpred_miou"] / 2),
        "video_locpred_miou_shuffled": 0,
        "video_present_acc_blank": 1,
        "video_present_acc_shuffled": 1,
        "video_export_same": pytest.approx(2 * third),
        "video_locpred_miou": pytest.approx(flat["video_locpred_miou"]),
        "video_locpred_miou_frame": pytest.approx(flat["video_locpred_miou"] / 2),
        "video_absent_acc": 1,
        "video_present_acc": pytest.approx(2 * third),
        "video_present_acc_frame": 1,
        "video_revloc_acc": pytest.approx(third),  # a bare "mug" is no answer of this form
        "video_qa_acc": pytest.approx(2 * third),
        "video_qa_acc_frame": 0,
    }
    assert count_met(video) == (1, 4)
    head, first, *_, last = video_table(video).splitlines()
    assert head.split() == ["clips", "stage3", "stage2,", "frame", "blank", "shuffled", "goal"]
    assert first.split() == ["Finds", "what", "rests", "0.667", "0.333", "0.333", "0.000", "≥", "0.70"]
    assert last == "exports answer as the checkpoint: video 2 of 3"


def test_the_page_shows_strips_with_boxes_and_escapes_what_models_say(run, video, tasks, read_page):
    asked = [task for name, task in tasks.items() if name in DEMO_TASKS]
    page = read_page(html := render_page(collect(run, asked), video))
    assert "Clips: 1 of 4 goals" in page.text
    assert "3 clips it has never seen" in page.text
    assert page.of_class("strip") == ["div"] * 2  # one video is not there
    assert "0.mp4: no such video" in page.text
    assert html.count('<rect class="said"') > 8
    assert "&lt;b&gt;up&lt;/b&gt;" in html
    assert "<b>up</b>" not in html
    assert "stage2, middle frame" in page.text
    assert "Finds what rests: 66.7, without it 33.3 (blank), 0.0 (shuffled)." in page.text
    assert "exports answer as the checkpoint: video 2 of 3" in page.text
    assert commonest_shares(video) == {"what moves": pytest.approx(1 / 3)}
    assert "what moves366.70.033.3" in page.text.replace("\n", "")  # asked, whole, frame, commonest


def test_without_clips_the_report_is_as_before(run, tasks):
    shutil.rmtree(run / "eval_video")
    assert collect_video(run, list(tasks.values())) is None
    asked = [task for name, task in tasks.items() if name in DEMO_TASKS]
    assert "Clips" not in render_page(collect(run, asked), None)


def test_the_model_of_whole_clips_may_stand_alone(run, tasks):
    shutil.rmtree(run / "eval_video/stage2")
    video = collect_video(run, list(tasks.values()))
    assert video.frame is None
    assert not any(name.endswith("_frame") for name in flat_video_scores(video))
    assert video_table(video).splitlines()[1].split()[-5:] == ["0.667", "0.333", "0.000", "≥", "0.70"]


def test_clips_are_drawn_by_the_seed_and_not_by_the_result(video):
    assert sorted(choose_clips(video)) == ["0.mp4", "1.mp4", "2.mp4"]
    draws = {tuple(choose_clips(replace(video, seed=seed), 2)) for seed in range(20)}
    assert len(draws) > 1


def test_minutes_are_those_of_all_phases_about_clips():
    seconds = {phase: 60.0 for phase in PHASES}
    assert minutes_of({**seconds, "stage2": 900.0}) == 5
    assert minutes_of({"stage3": 60.0}) is None
