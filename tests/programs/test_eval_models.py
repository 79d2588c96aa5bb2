"""eval/run.py with models of others: a stock LLaVA, BLIP-2, and servers that see boxes where they are."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.conventions import find_convention
from locvlm.answering.llava import load_llava
from locvlm.data.image import load_image
from locvlm.geometry import Box
from locvlm.io import read_json, read_jsonl, record_to_json, write_jsonl
from locvlm.records import Query, Record

COLORS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0)}


@pytest.fixture
def pictures(tmp_path):
    """Options for twelve pictures of all shapes with one square each: where is it, and what is there?"""
    (tmp_path / "images").mkdir()
    records = []
    for i in range(12):
        width, height = (90, 60) if i % 3 == 0 else (50, 110) if i % 3 == 1 else (64, 64)
        color = list(COLORS)[i % 3]
        x, y, side = 3 + 2 * i, 5 + i, 12 + i
        image = Image.new("RGB", (width, height), "gray")
        ImageDraw.Draw(image).rectangle((x, y, x + side - 1, y + side - 1), fill=COLORS[color])
        image.save(tmp_path / "images" / f"{i}.png")
        box = Box(x, y, x + side, y + side)
        where = Query(objective="locpred", phrase=f"{color} square", box_px=box)
        record = Record(
            id=f"r{i}", image=f"{i}.png", width=width, height=height,
            queries=(where, replace(where, objective="revloc")),
        )  # fmt: skip
        records.append(record_to_json(record))
    write_jsonl(tmp_path / "records.jsonl", records)
    return ["--records", tmp_path / "records.jsonl", "--image-root", tmp_path / "images"]


def seen(question) -> tuple[Image.Image, str]:
    """The image and the text that the server got."""
    shown, asked = question["messages"][-1]["content"]
    data = base64.b64decode(shown["image_url"]["url"].partition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB"), asked["text"]


def place_of_the_square(image) -> Box:
    is_square = (np.asarray(image) != 128).any(axis=2)
    (rows, columns) = (np.flatnonzero(is_square.any(axis=axis)) for axis in (1, 0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def numbers_of(convention: str, image, box: Box) -> str:
    """What a model of this convention would say, in numbers worked out here."""
    side, (width, height) = max(image.size), image.size
    left, top = (side - width) // 2, (side - height) // 2
    padded = [(box.x1 + left) / side, (box.y1 + top) / side, (box.x2 + left) / side, (box.y2 + top) / side]
    if convention == "llava":
        return "[" + ", ".join(f"{v:.2f}" for v in padded) + "]"
    if convention == "shikra":
        return "[" + ",".join(f"{v:.3f}" for v in padded) + "]"
    stretched = [box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height]
    if convention == "thousand":
        return f"It is at {[round(1000 * v) for v in stretched]}."
    columns, rows = ([int(v * 32) for v in stretched[axis::2]] for axis in (0, 1))
    first, last = 32 * rows[0] + columns[0], 32 * rows[1] + columns[1]
    return f"<object><patch_index_{first:04d}><patch_index_{last:04d}></object>"


@pytest.mark.parametrize("convention", ["llava", "shikra", "thousand", "kosmos2"])
def test_a_served_model_that_sees_is_right_in_every_convention(
    program, pictures, serve, tmp_path, convention
):
    contract, _ = find_convention(convention)

    def reply(question, number):
        image, text = seen(question)
        numbers = re.search(r"\[\d[^]]*\]|<object>.*?</object>", text)
        if numbers is None:
            return numbers_of(convention, image, place_of_the_square(image))
        asked_about = contract.read(numbers[0], contract.frame_for(image.size)).center
        pixel = image.getpixel((round(asked_about.x), round(asked_about.y)))
        return f"There is a {next((n for n, rgb in COLORS.items() if rgb == pixel), 'gray')} square."

    endpoint = serve(reply)
    program(
        "eval/run.py", "--model", endpoint.url, "--convention", convention, *pictures,
        "--tasks", "locpred,revloc", "--output-dir", tmp_path / "out", "--concurrency", 4,
    )  # fmt: skip
    tasks = read_json(tmp_path / "out/scores.json")["tasks"]
    assert tasks["locpred"]["asked"] == tasks["revloc"]["asked"] == 12
    # a square of 12 pixels covers four or five patches of Kosmos-2's
    assert tasks["locpred"]["scores"]["acc50"] == 1.0
    assert tasks["locpred"]["scores"]["miou"] > (0.6 if convention == "kosmos2" else 0.9)
    assert tasks["revloc"]["scores"]["exact_name"] == 1.0
    meta = read_json(tmp_path / "out/predictions/locpred.meta.json")
    assert (meta["checkpoint"], meta["fingerprint"]) == ("tiny", "server's tiny")
    assert (meta["contract"]["codec"], meta["contract"]["frame"]) == (contract.codec, contract.frame)


def test_a_served_checkpoint_of_ours_is_asked_in_the_words_of_its_training(
    program, pictures, serve, tmp_path, tiny_world
):
    contract, _ = find_convention(str(tiny_world.init))

    def reply(question, number):
        image, text = seen(question)
        assert "(x1,y1,x2,y2) bbox" in text
        return (
            f"It is located at {contract.write(place_of_the_square(image), contract.frame_for(image.size))}"
        )

    endpoint = serve(reply)
    program(
        "eval/run.py", "--model", endpoint.url, "--convention", tiny_world.init, *pictures,
        "--tasks", "locpred", "--output-dir", tmp_path / "out",
    )  # fmt: skip
    assert read_json(tmp_path / "out/scores.json")["tasks"]["locpred"]["scores"]["acc50"] == 1.0


def test_questions_that_a_server_refuses_are_failed_counted_and_asked_again(
    program, pictures, serve, tmp_path
):
    endpoint = serve(lambda question, number: 400 if number == 3 else "There is a red square.")
    arguments = [
        "--model", endpoint.url, "--convention", "llava", *pictures, "--tasks", "revloc",
        "--output-dir", tmp_path / "out", "--retries", 0, "--concurrency", 1,
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"no answer.*8\.33%|8\.33%.*no answer"):
        program("eval/run.py", *arguments)
    rows = [row for _, row in read_jsonl(tmp_path / "out/predictions/revloc.jsonl")]
    [failed] = [row for row in rows if row["failed"]]
    assert failed["failed"].startswith("no answer: ")
    assert failed["answer"] == ""
    endpoint.questions.clear()
    endpoint.answer = lambda question, number: "There is a blue square."
    program("eval/run.py", *arguments)
    assert len(endpoint.questions) == 1
    result = read_json(tmp_path / "out/scores.json")["tasks"]["revloc"]
    assert (result["asked"], result["answered"], result["failed"]) == (12, 12, 0)


def test_a_stock_llava_answers_as_it_does_one_question_at_a_time(program, foreign, tiny_world, tmp_path):
    out = tmp_path / "out"
    program(
        "eval/run.py", "--model", foreign("llava"), "--records", tiny_world.records,
        "--image-root", tiny_world.images, "--tasks", "locpred,revloc", "--output-dir", out,
        "--dtype", "float64",
    )  # fmt: skip
    import torch

    alone = load_llava(foreign("llava"), dtype=torch.float64, max_batch_tokens=1)
    compared = 0
    for task in ("locpred", "revloc"):
        for _, row in list(read_jsonl(out / f"predictions/{task}.jsonl"))[:8]:
            asked = Asked(image=load_image(tiny_world.images / row["image"]), questions=[row["question"]])
            tokens = 48 if task == "locpred" else 24
            assert alone.answer([asked], Decoding(max_new_tokens=tokens)) == [[row["answer"]]]
            compared += 1
            assert row["question"].startswith("Please provide ")
    assert compared == 16
    meta = read_json(out / "predictions/locpred.meta.json")
    contract = {"codec": "llava", "frame": "pad", "location": "bbox", "canvas": 56, "patch": 14}
    assert meta["contract"] == contract
    assert meta["checkpoint"] == str(foreign("llava"))
    assert read_json(out / "scores.json")["tasks"]["locpred"]["answered"] > 0


def test_a_model_without_locations_is_not_asked_anything_before_it_refuses_them(
    program, foreign, tiny_world, tmp_path
):
    arguments = [
        "--model", foreign("blip-2/opt"), "--records", tiny_world.records, "--image-root", tiny_world.images,
        "--output-dir", tmp_path / "out",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="task locpred is about locations, and this model has no known way"):
        program("eval/run.py", *arguments, "--tasks", "locpred,present")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bundle(pictures, tmp_path):
    """Options for the bundle of three tasks: a question, one with options, and one about locations."""
    folder = tmp_path / "eval"
    (folder / "tasks").mkdir(parents=True)
    (folder / "bundles").mkdir()
    about = {
        "said": "objective: vqa, file: vqa.jsonl",
        "chosen": "objective: vqa, file: vqa.jsonl",
        "located": "objective: locpred, file: records.jsonl",
    }
    rest = {
        "said": "parse: text\nmetrics: [exact_match]",
        "chosen": "parse: text\nmetrics: [exact_match]\nchoose: likelihood\noptions: ['yes', 'no']",
        "located": "parse: location\nmetrics: [acc50]",
    }
    for name, data in about.items():
        text = f"name: {name}\nversion: 1\ndata: {{{data}, image_root: images}}\n{rest[name]}\n"
        (folder / "tasks" / f"{name}.yaml").write_text(text)
    text = "name: all\nparts: [{of: everything, tasks: [said, chosen, located]}]\n"
    (folder / "bundles" / "all.yaml").write_text(text)
    query = Query(objective="vqa", question="Is there a red square?", answer="yes")
    records = (Record(id=f"q{i}", image=f"{i}.png", queries=(query,)) for i in range(12))
    write_jsonl(tmp_path / "vqa.jsonl", map(record_to_json, records))
    return ["--tasks", "all", "--task-dir", folder / "tasks", "--data-root", tmp_path]


@pytest.mark.parametrize("kind", ["blip-2/t5", "instructblip/llama", "kosmos-2"])
def test_of_a_bundle_a_baseline_is_asked_what_it_can_do(program, foreign, bundle, tmp_path, kind, capsys):
    program("eval/run.py", "--model", foreign(kind), *bundle, "--output-dir", tmp_path / "out")
    knows_locations = kind == "kosmos-2"
    found = read_json(tmp_path / "out/scores.json")["tasks"]
    assert set(found) == {"said", "chosen"} | ({"located"} if knows_locations else set())
    said = capsys.readouterr().out
    assert ("left out: located: task located is about locations" in said) is not knows_locations
    rows = [row for _, row in read_jsonl(tmp_path / "out/predictions/chosen.jsonl")]
    assert all(row["answer"] == max(row["option_nats"], key=row["option_nats"].get) for row in rows)
    assert len({tuple(row["option_nats"].values()) for row in rows}) > 6
    contract = read_json(tmp_path / "out/predictions/said.meta.json")["contract"]
    assert bool(contract) is knows_locations


def test_of_a_bundle_a_server_is_not_asked_for_likelihoods(program, serve, bundle, tmp_path, capsys):
    endpoint = serve(lambda question, number: "yes")
    arguments = ["--model", endpoint.url, *bundle, "--output-dir", tmp_path / "out"]
    program("eval/run.py", *arguments)
    assert set(read_json(tmp_path / "out/scores.json")["tasks"]) == {"said"}
    assert "left out: chosen: the server at" in capsys.readouterr().out
    arguments[arguments.index("all")] = "located,chosen"
    with pytest.raises(ValueError, match=r"task located is about locations.*--convention declares one"):
        program("eval/run.py", *arguments)
    assert len(endpoint.questions) == 12
