"""scripts/chat.py and scripts/draw_frames.py as a user starts them."""

import json

import numpy as np
import pytest
from PIL import Image

from locvlm.answering.answerer import Decoding
from locvlm.answering.locvlm import load_answerer
from locvlm.evals.chat import Talk
from locvlm.export.hf import export_hf


@pytest.fixture
def says(monkeypatch):
    """says(text): every answer of any checkpoint."""
    return lambda text: monkeypatch.setattr(
        "locvlm.answering.locvlm.LocVLMAnswerer.answer", lambda self, asked, decoding: [[text]] * len(asked)
    )


def test_a_question_is_answered_and_its_box_drawn(program, says, tiny_world, tmp_path, capsys):
    says("It is located at (14, 14, 28, 28)")
    out = tmp_path / "out.png"
    image = tiny_world.images / "0.png"
    program(
        "scripts/chat.py",
        "--model",
        tiny_world.init,
        "--image",
        image,
        "--ask",
        "where is the mug",
        "--draw",
        out,
    )
    width, height = Image.open(image).size
    x, y = width / 4, height / 4  # the canvas is 56 pixels wide
    text = capsys.readouterr().out
    assert "It is located at (14, 14, 28, 28)" in text
    assert f"box ({x:.0f}, {y:.0f}, {2 * x:.0f}, {2 * y:.0f}) px" in text
    assert Image.open(out).size == (width, height)


def test_without_a_question_it_reads_them_until_an_empty_line(program, says, tiny_world, monkeypatch, capsys):
    says("There is no such object in the image")
    lines = iter(["where is the mug?", "Is it raining?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    program("scripts/chat.py", "--model", tiny_world.init, "--image", tiny_world.images / "0.png")
    assert capsys.readouterr().out.count("There is no such object in the image") == 2


def test_an_untrained_checkpoint_says_something(program, tiny_world, capsys):
    image = tiny_world.images / "0.png"
    program(
        "scripts/chat.py",
        "--model",
        tiny_world.init,
        "--image",
        image,
        "--ask",
        "hello",
        "--max-new-tokens",
        3,
    )
    assert capsys.readouterr().out.endswith("\n")


def test_a_missing_image_is_named(program, tiny_world, tmp_path):
    with pytest.raises(ValueError, match="no such image"):
        program(
            "scripts/chat.py", "--model", tiny_world.init, "--image", tmp_path / "none.jpg", "--ask", "hello"
        )


@pytest.fixture
def clip(tmp_path, write_clip):
    """A video of 96 x 64 pixels whose middle frame is gray 100, the others black."""
    grays = [0, 0, 0, 100, 0, 0, 0]
    pictures = [np.full((64, 96, 3), gray, dtype=np.uint8) for gray in grays]
    return write_clip(tmp_path / "clip.mp4", pictures)


def test_a_videos_box_is_drawn_on_its_middle_frame(program, stage3, clip, tmp_path, capsys, monkeypatch):
    shown = []

    def answer(self, asked, decoding):
        shown.extend(asked)
        return [["It is located at (14, 14, 28, 28)"]]

    monkeypatch.setattr("locvlm.answering.locvlm.LocVLMAnswerer.answer", answer)
    out = tmp_path / "out.png"
    asked = ("--ask", "where is the mug", "--draw", out)
    program("scripts/chat.py", "--model", stage3, "--video", clip, *asked)
    assert [(item.image, len(item.frames)) for item in shown] == [(None, 4)]
    assert "box (24, 16, 48, 32) px" in capsys.readouterr().out  # of 96 x 64; the canvas is 56 pixels wide
    picture = Image.open(out)
    assert picture.size == (96, 64)
    assert picture.getpixel((80, 50)) == pytest.approx((100, 100, 100), abs=4)
    assert picture.getpixel((25, 24)) != pytest.approx((100, 100, 100), abs=20)


def test_an_untrained_checkpoint_says_something_about_a_video(program, stage3, clip, capsys):
    asked = ("--ask", "hello", "--max-new-tokens", 3)
    program("scripts/chat.py", "--model", stage3, "--video", clip, *asked)
    assert capsys.readouterr().out.endswith("\n")


def test_a_checkpoint_of_images_takes_no_video_and_a_missing_one_is_named(program, tiny_world, stage3, clip):
    with pytest.raises(ValueError, match="made for images alone"):
        program("scripts/chat.py", "--model", tiny_world.init, "--video", clip, "--ask", "hello")
    with pytest.raises(ValueError, match="no such video"):
        program("scripts/chat.py", "--model", stage3, "--video", clip.with_name("x.mp4"), "--ask", "hello")
    with pytest.raises(SystemExit):
        program("scripts/chat.py", "--model", stage3, "--video", clip, "--image", clip, "--ask", "hello")


def test_frames_of_a_coco_file_are_drawn(program, tiny_world, tmp_path, capsys):
    size = Image.open(tiny_world.images / "0.png").size
    instances = {
        "images": [{"id": 1, "file_name": "0.png", "width": size[0], "height": size[1]}],
        "categories": [{"id": 1, "name": "mug"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0, "area": 400}
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    program(
        "scripts/draw_frames.py",
        *("--instances", tmp_path / "instances.json"),
        *("--image-root", tiny_world.images),
        *("--out", tmp_path / "frames.html"),
    )
    assert (tmp_path / "frames.html").read_text().count("data:image/jpeg") == 4
    assert "kept 1" in capsys.readouterr().out


def test_an_export_answers_as_its_checkpoint_does(tiny_world, tmp_path):
    export_hf(tiny_world.init, tmp_path / "export")
    replies = [
        Talk(load_answerer(folder), tiny_world.images / "0.png").ask(
            "where is the red square", Decoding(max_new_tokens=8)
        )
        for folder in (tiny_world.init, tmp_path / "export")
    ]
    assert replies[0] == replies[1]
