import json

import pytest

from locvlm.annotations.image_text import read_image_text
from locvlm.annotations.instruct import read_llava, sample_from_llava, sample_to_llava
from locvlm.io import Ledger
from locvlm.records import Sample, Turn


def entry(*values, image="a/b.jpg", **more):
    messages = [{"from": ("human", "gpt")[k % 2], "value": value} for k, value in enumerate(values)]
    return {"id": "x", **({"image": image} if image else {}), "conversations": messages, **more}


@pytest.mark.parametrize(
    "question", ["<image>\nWhat is it?", "What is it?\n<image>", "<image> What is it? ", "What <image>is it?"]
)
def test_the_image_is_taken_out_wherever_it_stands_in_the_first_question(question):
    sample = sample_from_llava(entry(question, " A dog. ", " And <this>?", "No."), where="here")
    assert sample == Sample(
        id="x",
        image="a/b.jpg",
        branches=(
            (Turn(question="What is it?", answer=" A dog. "), Turn(question=" And <this>?", answer="No.")),
        ),
    )


def test_a_text_only_entry_has_no_image_and_its_text_verbatim():
    sample = sample_from_llava(entry("  Hello\n", "Hi.\n", image=None), where="here")
    assert sample.image is None
    assert sample.branches == ((Turn(question="  Hello\n", answer="Hi.\n"),),)


def test_a_leading_turn_of_the_model_is_skipped_as_in_llava():
    leading = {"id": 7, "conversations": [{"from": "gpt", "value": "Hi"}, *entry("a", "b")["conversations"]]}
    sample = sample_from_llava(leading, where="here")
    assert sample.id == "7"
    assert sample.branches == ((Turn(question="a", answer="b"),),)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": "x"}, 'a list of "conversations"'),
        ("text", 'a list of "conversations"'),
        (entry("<image>", "a", image=["1.jpg", "2.jpg"]), "2 images in one conversation are not supported"),
        (entry("<image><image>", "a"), "2 images in one conversation are not supported"),
        (entry("no placeholder", "a"), "first human turn must hold <image>"),
        (entry("one", "a", "<image>\ntwo", "b"), "first human turn must hold <image>, got 'one'"),
        (entry("<image>", "a", image=None), 'holds <image> but the entry has no "image"'),
        (entry("<image>", "a", image=5), '"image" must be a path, got 5'),
        (entry("<image>", "a", "b"), "turns must alternate"),
        (entry(), "turns must alternate"),
        (entry("<image>", ""), "an answer is empty"),
        ({"conversations": [{"from": "human"}]}, 'message 0 must have "from" and "value" as text'),
        ({"conversations": [{"from": "system", "value": "a"}]}, "turns must alternate"),
    ],
)
def test_what_cannot_be_read_is_refused(bad, message):
    with pytest.raises(ValueError, match=message) as error:
        sample_from_llava(bad, where="chat.json: entry 3")
    assert str(error.value).startswith("chat.json: entry 3: ")


def test_an_error_in_a_file_names_file_and_index(tmp_path):
    path = tmp_path / "chat.json"
    path.write_text(json.dumps([entry("<image>\na", "b"), {"id": "y"}]))
    samples = read_llava(path)
    assert next(samples).id == "x"
    with pytest.raises(ValueError, match=r"chat\.json: entry 1: expected"):
        next(samples)
    path.write_text("{}")
    with pytest.raises(ValueError, match="expected LLaVA JSON, an array of conversations, got dict"):
        next(read_llava(path))


def test_json_lines_are_read_and_errors_name_the_line(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(entry("<image>\na", "b")) + "\n\n{}\n")
    samples = read_llava(path)
    assert next(samples).id == "x"
    with pytest.raises(ValueError, match=r"chat\.jsonl:3: expected"):
        next(samples)


@pytest.mark.parametrize("image", ["a/b.jpg", None])
def test_writing_is_the_inverse_of_reading(image):
    sample = Sample(
        id="x",
        image=image,
        branches=(
            (Turn(question="Where is it?", answer="Here."), Turn(question="Sure?", answer="Yes.")),
            (Turn(question="What is it?", answer="A dog."),),
        ),
    )
    separate = [
        sample_from_llava(e, where="here").branches[0] for e in sample_to_llava(sample, layout="separate")
    ]
    assert tuple(separate) == sample.branches
    (joined,) = sample_to_llava(sample, layout="multi_turn")
    assert joined["id"] == "x"
    assert sample_from_llava(joined, where="here").branches == (sample.branches[0] + sample.branches[1],)
    assert sample_to_llava(Sample(id="x", image=image, branches=()), layout="multi_turn") == []


def test_captions_of_llava_pretraining_files_are_their_answers(tmp_path):
    path = tmp_path / "chat.json"
    path.write_text(
        json.dumps([entry("<image>\nBrief!", "a dog \n"), entry("Say.\n<image>", " \n", image="c.jpg")])
    )
    ledger = Ledger()
    (image,) = read_image_text(path, ledger)
    assert (image.image_id, image.image, image.captions, image.width) == ("x", "a/b.jpg", ("a dog",), 0)
    assert dict(ledger.dropped) == {"empty caption": 1}
    path.write_text(json.dumps([entry("a", "b", image=None)]))
    with pytest.raises(
        ValueError, match='entry 0: expected an image with its caption, the entry has no "image"'
    ):
        list(read_image_text(path, Ledger()))


def test_captions_of_real_coco_files(shared_data):
    path = shared_data / "coco" / "annotations" / "captions_val2017.json"
    images = list(read_image_text(path, Ledger()))
    assert images
    assert all(len(image.captions) >= 5 and image.width > 0 for image in images)


@pytest.mark.parametrize("placeholder", ["<video>\n{}", "{}\n<video>", "<image>\n{}"])
@pytest.mark.parametrize("video", ["v_a.mp4", "v_a.pkl", ["v_a.mp4"]])
def test_a_video_is_taken_out_as_an_image_is(placeholder, video):
    asked = entry(
        placeholder.format("What is it?"), "A dog.", "And <video>?", "A tag.", image=None, video=video
    )
    sample = sample_from_llava(asked, where="here")
    assert (sample.image, sample.video) == (None, video if isinstance(video, str) else video[0])
    assert sample.branches == (
        (Turn(question="What is it?", answer="A dog."), Turn(question="And <video>?", answer="A tag.")),
    )


def test_a_row_of_video_instruct_is_one_question_about_its_video(tmp_path):
    path = tmp_path / "VideoInstruct100K.json"
    path.write_text(json.dumps([{"q": "What is it?", "a": "A dog.", "video_id": "v_k_ZXmr8pmrs"}]))
    (sample,) = read_llava(path)
    turn = Turn(question="What is it?", answer="A dog.")
    assert sample == Sample(id="v_k_ZXmr8pmrs", image=None, video="v_k_ZXmr8pmrs", branches=((turn,),))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"q": "What?", "video_id": "v_a"}, 'expected "q", "a" and "video_id" as text'),
        ({"q": "What?", "a": "", "video_id": "v_a"}, 'expected "q", "a" and "video_id" as text'),
        (
            entry("no placeholder", "a", image=None, video="v.mp4"),
            "has a video, so its first human turn must hold <video>",
        ),
        (entry("<video><image>", "a", image=None, video="v.mp4"), "2 images in one conversation"),
        (
            entry("<video>", "a", image=None, video=["1", "2"]),
            "2 videos in one conversation are not supported",
        ),
        (entry("<video>", "a", video="v.mp4"), "image 'a/b.jpg' and video 'v.mp4' in one conversation"),
    ],
)
def test_a_video_that_cannot_be_read_of_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        sample_from_llava(bad, where="chat.json: entry 3")


def test_the_word_for_a_video_is_text_where_there_is_none():
    sample = sample_from_llava(entry("Close the <video> tag.", "</video>", image=None), where="here")
    assert sample.branches[0][0].question == "Close the <video> tag."


def test_writing_is_the_inverse_of_reading_for_videos_too():
    sample = Sample(id="x", image=None, video="v.mp4", branches=((Turn(question="What?", answer="A dog."),),))
    (written,) = sample_to_llava(sample, layout="multi_turn")
    assert written["conversations"][0]["value"] == "<video>\nWhat?"
    assert sample_from_llava(written, where="here") == sample
