"""data_builders/audit.py: each fault, by a file made for it, changes the status; a sound file does not."""

import json
import random
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from locvlm.building.shard_writer import write_tar

AUDIT = "data_builders/audit.py"
BOX = [10, 10, 30, 50]
KINDS = ["dog", "cat", "bus", "cow", "elk", "emu", "fox", "owl"]


def record(name, *queries, image=None):
    asked = [
        {"objective": objective, "phrase": phrase, "category": phrase, **({"box_px": box} if box else {})}
        for objective, phrase, box in queries
    ]
    return {"id": name, "image": image or f"{name}.jpg", "width": 100, "height": 80, "queries": asked}


def sound(number=4):
    return [
        record(f"n{k}", ("locpred", "dog", BOX), ("revloc", "dog", BOX), ("negpred", "cat", None))
        for k in range(number)
    ]


@pytest.fixture
def write(tmp_path):
    """write(rows): a record file."""

    def written(rows, name="a.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return written


@pytest.fixture
def audit(program, tmp_path, monkeypatch, capsys):
    """audit(file, options): (status, what was printed, what was logged)."""
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments):
        with pytest.raises(SystemExit) as stop:
            program(AUDIT, *arguments)
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run_here


@pytest.fixture
def images(tmp_path):
    """The pictures of four sound records, all different."""
    root = tmp_path / "images"
    root.mkdir()
    for k in range(4):
        Image.new("RGB", (100, 80), (60 * k, 0, 0)).save(root / f"n{k}.jpg")
    return root


def broken(text):
    """What the lines of broken limits are about."""
    return [line.split("  ", 1)[1].split(":")[0] for line in text.splitlines() if line.startswith("BROKEN")]


def test_a_sound_file_passes_and_everything_is_written(audit, write, images, tmp_path):
    path = write(sound())
    status, said, _ = audit(path, "--image-root", images, "--out", "a.json", "--page", "a.html")
    assert status == 0
    assert broken(said) == []
    assert "4 entries about 4 images or videos, 12 questions (4 locpred, 4 revloc, 4 negpred)" in said
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["queries"] == {"locpred": 4, "revloc": 4, "negpred": 4}
    assert figures["objects_by_class"] == {"dog": 4}
    assert figures["boxes"]["size_classes"] == {"small": 4, "medium": 0, "large": 0}
    assert {v["name"]: v["holds"] for v in figures["verdicts"]} == {
        **{"unreadable": True, "outside": True, "repeated_questions": True, "repeated_images": None},
        **{"missing": True, "copies": True, "leaked": None},
        **{"prompts: a classifier of the prompt's words": None, "prompts: the class alone": None},
    }
    assert (tmp_path / "a.html").read_text().count("data:image/jpeg;base64,") == 4


FAULTS = {
    "entries that cannot be read": ([{"id": "bad", "queries": 3, "image": None}], "unreadable", 0.2),
    "boxes that reach out of their image, or are none": (
        [record("n9", ("locpred", "cow", [90, 10, 120, 50]), ("locpred", "fox", [5, 5, 5, 9]))],
        "outside",
        0.2,  # 2 of 10
    ),
    "questions asked again about their image with the same answer": (
        [record("n9", ("locpred", "dog", BOX), image="n0.jpg")],
        "repeated-questions",
        0.077,  # 1 of 13
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_breaks_its_limit_and_a_limit_that_allows_it_holds(audit, write, what):
    rows, option, allowed = FAULTS[what]
    path = write([*sound(), *rows])
    status, said, _ = audit(path)
    assert (status, broken(said)) == (1, [what])
    status, said, _ = audit(path, f"--max-{option}", allowed)
    assert (status, broken(said)) == (0, [])


def test_the_status_is_that_of_the_process(repo_root, write, tmp_path):
    files = [write(sound()), write([*sound(), *sound(1)], "twice.jsonl"), tmp_path / "gone.jsonl"]
    for status, path in enumerate(files):
        command = [sys.executable, str(repo_root / AUDIT), str(path)]
        assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == status


def test_repeated_images_are_counted_and_only_broken_if_there_is_a_limit(audit, write):
    rows = [record("a", ("negpred", "cat", None), image="000000000009.jpg")]
    rows += [record("b", ("negpred", "cow", None), image="COCO_train2014_000000000009.jpg")]
    path = write(rows)
    status, said, _ = audit(path)
    assert status == 0
    assert "an earlier entry is about: 50.00% (no limit); 1 of 2; coco 9: 2 times" in said
    status, said, _ = audit(path, "--max-repeated-images", 0.4)
    assert (status, broken(said)) == (1, ["entries about an image that an earlier entry is about"])


def test_missing_and_equal_files_are_found(audit, write, images):
    path = write(sound())
    shutil.copy(images / "n0.jpg", images / "n1.jpg")
    status, said, _ = audit(path, "--image-root", images)
    assert (status, broken(said)) == (1, ["image files equal to another"])
    assert "n1.jpg = n0.jpg" in said
    assert audit(path, "--image-root", images, "--max-copies", 0.25)[0] == 0
    (images / "n1.jpg").unlink()
    status, said, _ = audit(path, "--image-root", images, "--page", "a.html")
    assert (status, broken(said)) == (1, ["images that are not in the folder"])
    assert audit(path, "--image-root", images, "--max-missing", 0.25)[0] == 0


def test_images_of_evaluations_are_found_under_their_other_names(audit, write, tmp_path):
    query = ("negpred", "cat", None)
    names = ["train2017/000000000042.jpg", "train2017/000000000043.jpg", "gqa/7.jpg", "n1.jpg"]
    path = write([record(f"r{k}", query, image=name) for k, name in enumerate(names)])
    (tmp_path / "pope.json").write_text(
        json.dumps({"image": "COCO_val2014_000000000042.jpg", "text": "?", "label": "no"}) + "\n"
    )
    (tmp_path / "vqa.json").write_text(json.dumps({"questions": [{"image_id": 43, "question": "?"}]}))
    (tmp_path / "genome.json").write_text(json.dumps([{"image_id": 7, "coco_id": 99}]))
    (tmp_path / "val.txt").write_text("COCO_val2014_000000000099.jpg\n")
    what = ["images that evaluations ask about"]

    status, said, _ = audit(path, "--evaluation", "pope.json", "vqa.json", "val.txt")
    assert (status, broken(said)) == (1, what)
    assert "2 of 4; pope.json: 1 of its 1; vqa.json: 1 of its 1; val.txt: 0 of its 1" in said
    status, said, _ = audit(path, "--evaluation", "val.txt", "--visual-genome", "genome.json")
    assert (status, broken(said)) == (1, what)
    assert audit(path, "--evaluation", "val.txt")[0] == 0
    assert audit(path, "--evaluation", "pope.json", "--max-leaked", 0.25)[0] == 0


def balanced(absent_phrase):
    rng = random.Random(0)
    rows = []
    for k in range(520):
        *there, one, other = rng.sample(KINDS, 4)
        present = [("locpred", name, [10 * n + 1, 5, 10 * n + 9, 30]) for n, name in enumerate(there)]
        rows.append(
            record(f"n{k}", *present, *(("negpred", absent_phrase(name), None) for name in (one, other)))
        )
    return rows


def test_a_giveaway_in_absent_phrases_breaks_the_limit_and_balanced_ones_hold_it(audit, write):
    what = "absent told from present by "
    status, said, _ = audit(write(balanced(str)))
    assert (status, broken(said)) == (0, [])
    assert "cross-validated over the images of 2,080 prompts" in said
    path = write(balanced(lambda name: f"one {name}"))
    status, said, _ = audit(path)
    assert status == 1
    assert broken(said)[0] == f"{what}a classifier of the prompt's words"
    assert audit(path, "--max-prompt-accuracy", 1)[0] == 0


def test_too_few_prompts_are_not_measured(audit, write):
    status, said, _ = audit(write(balanced(lambda name: f"one {name}")[:400]))
    assert status == 0
    assert "800 questions for what is there and 800 for what is absent; at least 1,000" in said


def test_tokens_of_a_sample(audit, write, tmp_path):
    from locvlm.world.backbones import TOKENIZER_FILE, WEIGHTS, write_tokenizer

    write_tokenizer(WEIGHTS / TOKENIZER_FILE, tmp_path / "llm")
    status, said, _ = audit(write(sound()), "--tokenizer", "llm", "--out", "a.json", "--page", "a.html")
    assert status == 0
    tokens = json.loads((tmp_path / "a.json").read_text())["tokens"]
    assert tokens["packed"]["max"] > tokens["longest"]["max"] > 256
    assert f"packed: median {tokens['packed']['50%']:,.0f}" in said
    assert "Its longest dialogue alone" in (tmp_path / "a.html").read_text()


def test_llava_json_and_shards_are_audited(audit, tmp_path):
    turns = [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "A dog."}]
    entries = [{"id": str(k), "image": f"n{k}.jpg", "conversations": turns} for k in range(3)]
    (tmp_path / "llava.json").write_text(json.dumps(entries))
    status, said, _ = audit("llava.json")
    assert status == 0
    assert "3 entries about 3 images or videos, 3 questions (3 conversation)" in said
    for k, row in enumerate(sound(2)):
        members = [(f"{k}.jpg", b"jpeg"), (f"{k}.json", json.dumps(row).encode())]
        write_tar(tmp_path / f"{k:05d}.tar", members)
    status, said, _ = audit("*.tar", "--out", "a.json")
    assert status == 0
    assert "2 entries about 2 images or videos, 6 questions" in said
    assert list(json.loads((tmp_path / "a.json").read_text())["sha256"]) == ["00000.tar", "00001.tar"]


def test_the_same_file_gives_the_same_figures_and_page(audit, write, tmp_path):
    path = write(balanced(str))
    for name in "ab":
        audit(path, "--out", f"{name}.json", "--page", f"{name}.html")
    for kind in ("json", "html"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b'{"images": [], "annotations": []}', "got an object with images, annotations"),
        (b"\x89PNG\r\n\x1a\n\xff", "not valid JSON"),
    ],
)
def test_a_file_of_another_kind_cannot_be_audited(audit, tmp_path, content, message):
    (tmp_path / "other").write_bytes(content)
    status, said, log = audit("other", "--out", "a.json")
    assert (status, said) == (2, "")
    assert "audit: other" in log
    assert message in log
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--evaluation", "gone.json"), "no file gone.json"),
        (("--image-root", "gone"), "no folder gone"),
        (("--tokenizer", "gone"), "gone holds no tokenizer"),
        (("--visual-genome", "gone.json"), "gone.json"),
        (("--max-leaked", "1.5"), "a limit is a fraction in [0, 1], got 1.5 for leaked"),
        (("--max-outside", "nan"), "a limit is a fraction in [0, 1], got nan"),
        (("--canvas", "225"), "whole number of patches"),
    ],
)
def test_wrong_options_are_found_before_the_file_is_read(audit, write, options, message):
    status, said, log = audit(write(sound()), *options)
    assert (status, said) == (2, "")
    assert message in log


def test_a_file_that_is_not_there_is_named(audit):
    status, _, log = audit("gone.jsonl")
    assert status == 2
    assert "gone.jsonl: no such file" in log


def test_what_localize_instruct_builds_passes(audit, run, instances):
    run("data_builders/localize_instruct.py", "--instances", instances, "--out", "localize.jsonl")
    status, said, _ = audit("localize.jsonl", "--page", "a.html")
    assert (status, broken(said)) == (0, [])


def test_real_images_are_told_from_those_of_real_evaluations(audit, run, shared_data):
    coco = shared_data / "coco"
    for split in ("train", "val"):
        source = coco / "annotations" / f"instances_{split}2017.json"
        run("data_builders/localize_instruct.py", "--instances", source, "--out", f"{split}.jsonl")
    files = [*(shared_data / "pope").glob("*.json"), coco / "annotations" / "instances_val2017.json"]
    status, said, _ = audit("train.jsonl", "--image-root", coco / "train2017", "--evaluation", *files)
    assert (status, broken(said)) == (0, [])
    status, said, _ = audit("val.jsonl", "--evaluation", *files)
    assert (status, broken(said)) == (1, ["images that evaluations ask about"])
