from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image

from locvlm.answering.answerer import NoAnswer
from locvlm.evals.asking.ask import MEAN_COLOR, AskOptions, ask
from locvlm.evals.asking.predict import predict_task
from locvlm.evals.asking.questions import overlap_fraction, read_questions, shuffled_images
from locvlm.evals.asking.store import predictions_path, read_meta, read_predictions
from locvlm.evals.score import score_folder
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.records import Query, Record
from locvlm.spec import VisionSpec

# (20, 10, 60, 50) of 200 x 100 pixels on a canvas of 112 x 112; the bus is 20 pixels to the right
MUG, BUS = "(11, 11, 34, 56)", "(22, 11, 45, 56)"
CHECKPOINT = ("runs/x", "fingerprint")


def knows_all(question, pixels):
    return f"It is located at {MUG if 'mug' in question else BUS}"


@pytest.fixture
def run(val, tmp_path):
    """run(answerer, task, images="real"): the predictions, by question id."""

    def predict(answerer, task, images="real", **more):
        path = predict_task(
            answerer,
            task,
            records=val.path,
            folder=tmp_path / "out",
            options=AskOptions(image_root=val.images, images=images, batch_size=4),
            checkpoint=CHECKPOINT,
            **more,
        )
        return {p.id: p for p in read_predictions(path)}

    return predict


def test_only_the_tasks_objective_is_asked_and_every_question_has_an_id(
    run, scripted, locpred_task, tmp_path
):
    predictions = run(scripted(knows_all), locpred_task)
    assert list(predictions) == [f"r{i}/{k}" for i in range(3) for k in (0, 2)]
    assert predictions["r1/2"].gold["phrase"] == "bus"
    assert predictions["r1/2"].gold["box_px"] == [40, 10, 80, 50]
    assert "bus" in predictions["r1/2"].question
    assert score_folder(tmp_path / "out", [locpred_task])["flat"]["locpred_acc50"] == 1


def test_an_images_questions_are_asked_together_and_batches_stay_small(run, scripted, locpred_task):
    answerer = scripted(knows_all)
    run(answerer, locpred_task)
    assert answerer.batches == [[2, 2], [2]]


def test_a_second_run_asks_only_what_is_left(run, scripted, locpred_task, tmp_path):
    whole = run(scripted(knows_all), locpred_task)
    path = predictions_path(tmp_path / "out", "locpred", "real")
    path.write_text(
        "".join(path.read_text().splitlines(keepends=True)[:3])[:-9]
    )  # killed while writing the third
    answerer = scripted(knows_all)
    assert run(answerer, locpred_task) == whole
    assert sum(map(sum, answerer.batches)) == 4


def test_the_same_question_is_worded_the_same_in_every_run_and_batch(val, scripted, locpred_task):
    questions = read_questions(val.path, locpred_task)
    options = AskOptions(image_root=val.images)
    texts = [
        [p.question for batch in ask(scripted(knows_all), locpred_task, asked, o) for p in batch]
        for asked, o in ((questions, options), (questions, replace(options, batch_size=1)))
    ]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 2  # the wording varies from question to question
    other = [
        p.question
        for batch in ask(scripted(knows_all), locpred_task, questions, replace(options, seed=1))
        for p in batch
    ]
    assert other != texts[0]


def test_descriptions_are_asked_in_the_contracts_coordinates(val, scripted, tasks, tmp_path):
    questions = read_questions(val.path, tasks["revloc"])
    [predictions] = ask(
        scripted(lambda q, _: "There is a mug."),
        tasks["revloc"],
        questions,
        AskOptions(image_root=val.images),
    )
    assert all(MUG in p.question for p in predictions)


def test_an_unreadable_image_fails_its_questions_and_no_others(run, scripted, locpred_task, val, tmp_path):
    (val.images / "1.png").write_bytes(b"not an image")
    (val.images / "2.png").unlink()
    predictions = run(scripted(knows_all), locpred_task)
    assert Counter(bool(p.failed) for p in predictions.values()) == {True: 4, False: 2}
    assert "unreadable image" in predictions["r1/0"].failed
    assert "no such image" in predictions["r2/0"].failed
    result = score_folder(tmp_path / "out", [locpred_task])["tasks"]["locpred"]
    assert (result["asked"], result["answered"], result["failed"]) == (6, 2, 4)
    assert result["scores"]["acc50"] == 1 / 3


def test_a_corrected_image_root_gives_every_question_its_answer(run, scripted, locpred_task, val, tmp_path):
    right, val.images = val.images, tmp_path / "wrong"
    assert [bool(p.failed) for p in run(scripted(knows_all), locpred_task).values()] == [True] * 6
    val.images = right
    assert [p.failed for p in run(scripted(knows_all), locpred_task).values()] == [""] * 6
    assert score_folder(tmp_path / "out", [locpred_task])["flat"]["locpred_acc50"] == 1
    note = read_meta(predictions_path(tmp_path / "out", "locpred", "real"))
    assert note.image_root == str(right)  # where the report looks for pictures


def test_an_image_of_another_size_than_its_record_says_fails(run, scripted, locpred_task, val):
    Image.new("RGB", (100, 100)).save(val.images / "0.png")
    assert "expected (200, 100)" in run(scripted(knows_all), locpred_task)["r0/0"].failed


def test_a_path_that_leads_out_of_the_image_root_is_refused(run, scripted, locpred_task, val):
    write_records(val.path, [replace(val.records[0], image="../val.jsonl")])
    with pytest.raises(ValueError, match="must stay inside its root"):
        run(scripted(knows_all), locpred_task)


def test_the_mean_colour_is_that_of_the_tower_in_8_bits():
    mean = VisionSpec(canvas=112, patch=14).image_mean
    assert tuple(round(255 * value) for value in mean) == MEAN_COLOR


def test_blank_images_are_the_mean_colour_whatever_the_file_holds(run, scripted, locpred_task, val):
    (val.images / "1.png").unlink()
    answerer = scripted(knows_all)
    predictions = run(answerer, locpred_task, "blank")
    assert answerer.shown == pytest.approx([sum(MEAN_COLOR) / 3] * 3)
    assert not any(p.failed for p in predictions.values())


def test_shuffled_images_show_every_record_the_image_of_another(run, scripted, locpred_task):
    answerer = scripted(knows_all)
    predictions = run(answerer, locpred_task, "shuffled")
    own = [10.0, 20.0, 30.0]
    assert sorted(answerer.shown) == own
    assert all(shown != mine for shown, mine in zip(answerer.shown, own, strict=True))
    assert predictions["r0/0"].image == "0.png"  # what was asked about, not what was shown


def test_shuffling_has_no_fixed_point_and_does_not_depend_on_order():
    images = [f"{i}.png" for i in range(50)]
    shown = shuffled_images(images, seed=0)
    assert set(shown) == set(shown.values()) == set(images)
    assert all(image != other for image, other in shown.items())
    assert shuffled_images(images[::-1] * 2, seed=0) == shown
    assert shuffled_images(images, seed=1) != shown
    with pytest.raises(ValueError, match="at least 2 different images"):
        shuffled_images(["a.png", "a.png"], seed=0)


def test_a_limit_keeps_the_first_images(run, scripted, locpred_task):
    assert {p.record_id for p in run(scripted(knows_all), locpred_task, limit=2).values()} == {"r0", "r1"}


def test_nothing_to_ask_and_ids_that_occur_twice_are_errors(val, locpred_task):
    write_records(val.path, [replace(val.records[0], queries=val.records[0].queries[1:2])])
    with pytest.raises(ValueError, match="holds no locpred query"):
        read_questions(val.path, locpred_task)
    write_records(val.path, [val.records[0], val.records[0]])
    with pytest.raises(ValueError, match="record id 'r0' occurs twice"):
        read_questions(val.path, locpred_task)


def test_a_record_without_an_image_is_asked_about_with_nothing_to_see(val, scripted, tasks):
    query = Query(objective="vqa", question="Which side is the bus?", answer="left")
    write_records(
        val.path, [Record(id="t", image=None, queries=(query,)), replace(val.records[0], queries=(query,))]
    )
    seen = []

    def say(question, image):
        seen.append(image is not None)
        return "left"

    task = tasks["coco_spatial_direct_horizontal"]
    options = AskOptions(image_root=val.images)
    [predictions] = ask(scripted(say), task, read_questions(val.path, task), options)
    assert seen == [False, True]
    assert [(p.image, p.answer, p.failed) for p in predictions] == [(None, "left", ""), ("0.png", "left", "")]


def test_a_question_that_a_model_does_not_take_without_an_image_has_failed_and_is_counted(
    val, scripted, tasks, tmp_path
):
    query = Query(objective="vqa", question="Which side is the bus?", answer="left")
    write_records(
        val.path, [Record(id="t", image=None, queries=(query,)), replace(val.records[0], queries=(query,))]
    )
    task = tasks["coco_spatial_direct_horizontal"]
    answerer = scripted(lambda question, image: NoAnswer("no image") if image is None else "left")
    path = predict_task(
        answerer,
        task,
        records=val.path,
        folder=tmp_path / "out",
        options=AskOptions(image_root=val.images),
        checkpoint=CHECKPOINT,
    )
    assert [p.failed for p in read_predictions(path)] == ["no answer: no image", ""]
    result = score_folder(tmp_path / "out", [task])["tasks"][task.name]
    assert (result["asked"], result["answered"], result["failed"]) == (2, 1, 1)


def test_a_record_without_image_size_is_refused_before_anything_is_asked(val, tasks):
    absent = Query(objective="negpred", phrase="kite")  # the answer may be a box
    words = Query(objective="vqa", question="Which side of the mug is the bus?", answer="left")
    write_records(val.path, [Record(id="r9", image="0.png", queries=(absent, words))])
    with pytest.raises(ValueError, match=r"record 'r9' has no image size, got width 0 .*write its width"):
        read_questions(val.path, tasks["absent"])
    assert len(read_questions(val.path, tasks["coco_spatial_direct_horizontal"])) == 1  # no box is involved


def test_a_crop_that_cuts_the_object_away_fails_the_question(val, scripted, locpred_task, contract):
    answerer = scripted(knows_all)
    answerer.contract = replace(contract, frame="crop")
    questions = read_questions(val.path, locpred_task, limit=1)
    [(mug, bus)] = ask(answerer, locpred_task, questions, AskOptions(image_root=val.images))
    assert (
        "crop frame cuts the object away" in mug.failed
    )  # a quarter of it is left: the crop shows x from 50 on
    assert not bus.failed


def test_overlap_is_the_share_of_a_box_under_another():
    a, b, c = Box(0, 0, 10, 10), Box(5, 0, 25, 10), Box(50, 50, 60, 60)
    queries = tuple(
        Query(objective=o, phrase="x", box_px=box) for box in (a, b, c) for o in ("locpred", "revloc")
    )
    record = Record(id="r", image="0.png", width=100, height=100, queries=queries)
    assert [overlap_fraction(record, box) for box in (a, b, c)] == [0.5, 0.25, 0.0]
    assert overlap_fraction(record, None) == 0.0
