"""Questions about whole videos, images and nothing are answered together as they are one by one."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from locvlm.answering.answerer import Asked, Decoding, num_frames_of
from locvlm.answering.baselines import Baseline
from locvlm.answering.server import ServerAnswerer
from locvlm.data.clips import clip_pixels, read_clip
from locvlm.data.image import load_image
from locvlm.model.likelihood import likelihood_of_one

NUM_FRAMES = 6
SHORT = Decoding(max_new_tokens=6)
WORDINGS = ["Where is the red square?", "What is at (0, 1, 2, 3)?", "Is there a green bar?", "Why?"]
OPTIONS = ["There is a red square.", "A"]


@pytest.fixture
def clip(tmp_path, write_clip):
    """A video of ten noisy pictures."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(10)]
    return write_clip(tmp_path / "clip.mp4", noise)


@pytest.fixture
def asked(tiny_world, clip) -> list[Asked]:
    """Two videos and an image with several questions each, one without an image, one without a question."""
    frames = tuple(read_clip(clip, NUM_FRAMES))
    return [
        Asked(image=None, frames=frames, questions=WORDINGS),
        Asked(image=load_image(tiny_world.images / "0.png"), questions=WORDINGS[:3]),
        Asked(image=None, questions=WORDINGS[3:]),
        Asked(image=None, frames=frames[::-1], questions=WORDINGS[1:]),
        Asked(image=None, frames=frames, questions=[]),
    ]


@pytest.mark.parametrize("max_batch_tokens", [1, 32768])
def test_answers_about_videos_are_those_of_one_question_at_a_time(
    video_answerer, asked, max_batch_tokens, one_by_one
):
    expected = one_by_one(video_answerer, asked, max_new_tokens=6)
    assert replace(video_answerer, max_batch_tokens=max_batch_tokens).answer(asked, SHORT) == expected
    assert len({answer for answers in expected for answer in answers}) > 6


def test_options_about_videos_have_the_likelihood_behind_the_question(
    video_answerer, asked, ids_of, pixels_of
):
    options = [[OPTIONS for _ in item.questions] for item in asked]
    scores = video_answerer.option_scores(asked, options)
    compared = 0
    for item, of_item in zip(asked, scores, strict=True):
        for question, of_question in zip(item.questions, of_item, strict=True):
            start = len(ids_of(video_answerer, item, question))
            for text, score in zip(OPTIONS, of_question, strict=True):
                whole = ids_of(video_answerer, item, question, f" {text}</s>")
                assert score.num_tokens == len(whole) - start
                pixels = pixels_of(video_answerer, item)
                alone = likelihood_of_one(video_answerer.model, whole, pixels, answer_start=start)
                assert score.log_likelihood == pytest.approx(alone, abs=2e-4)  # the norms are in fp32
                compared += 1
    assert compared == 2 * sum(len(item.questions) for item in asked)


def test_a_clips_pixels_are_those_of_training(video_answerer, clip):
    frames = tuple(read_clip(clip, NUM_FRAMES))
    trained = clip_pixels(clip, mode=video_answerer.contract.frame, vision=video_answerer.model.spec)
    assert np.array_equal(video_answerer.clip_pixels(frames), trained.normalised())


def test_another_number_of_frames_is_refused(video_answerer, asked):
    assert num_frames_of(video_answerer) == NUM_FRAMES
    few = replace(asked[0], frames=asked[0].frames[:4])
    with pytest.raises(ValueError, match="by 6 frames, got 4"):
        video_answerer.answer([few], SHORT)


def test_models_of_images_refuse_videos(answerer, asked):
    for run in (lambda a: a.answer(asked[:1], SHORT), lambda a: a.option_scores(asked[:1], [[OPTIONS] * 4])):
        with pytest.raises(ValueError, match="made for images alone"):
            run(answerer)
    others = (
        ServerAnswerer(server=None, contract=None, words=None),
        Baseline(model=None, kind=None, contract=None, max_batch_tokens=100),
    )
    for other in others:
        with pytest.raises(ValueError, match="made for images alone"):
            other.answer(asked[:1], SHORT)
        with pytest.raises(ValueError, match="made for images alone"):
            num_frames_of(other)


def test_questions_are_about_one_thing():
    picture = Image.new("RGB", (8, 8))
    with pytest.raises(ValueError, match="an image or a video, got an image and 2 frames"):
        Asked(image=picture, frames=(picture, picture))
