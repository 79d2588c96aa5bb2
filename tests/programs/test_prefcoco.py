"""The program, with a real server, our tiny checkpoint and kills."""

import base64
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from locvlm.io import read_jsonl, read_records

PROGRAM = "data_builders/prefcoco.py"
CLASSES = ("red square", "blue disc", "green bar", "white cross")


@pytest.fixture
def start(repo_root, tmp_path):
    """start(program, ...): the program as a process of its own, in tmp_path."""

    def begin(program, *arguments):
        command = [sys.executable, str(repo_root / program), *map(str, arguments)]
        environment = {**os.environ, "MY_KEY": "sk-very-secret"}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    return begin


@pytest.fixture
def run(start):
    """run(...): data_builders/prefcoco.py to its end; what it wrote to stderr."""

    def finish(*arguments, fails=False, program=PROGRAM):
        process = start(program, *arguments)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode != 0) is fails, errors
        return errors

    return finish


@pytest.fixture
def run_here(repo_root, monkeypatch):
    """run_here(...): the same in this process, which has loaded torch already."""

    def finish(*arguments):
        monkeypatch.setattr("sys.argv", [PROGRAM, *map(str, arguments)])
        runpy.run_path(str(repo_root / PROGRAM), run_name="__main__")

    return finish


@pytest.fixture
def instances(tiny_world, tmp_path):
    """The tiny world's pictures with their objects as a COCO file; a class twice in picture 1."""
    images, annotations = [], []
    for k, record in enumerate(read_records(tiny_world.records)):
        images.append({"id": k, "file_name": record.image, "width": record.width, "height": record.height})
        located = [query for query in record.queries if query.objective == "locpred"]
        for query in located * (2 if k == 1 else 1):
            box = query.box_px
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k,
                    "category_id": CLASSES.index(query.phrase) + 1,
                    "bbox": [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def prompt_of(question) -> str:
    return question["messages"][-1]["content"][-1]["text"]


def class_of(question) -> str:
    return next(name for name in CLASSES if f"the {name} in this image" in prompt_of(question))


def describe(question, number) -> str:
    """A good answer, told apart by what the image's bytes are."""
    image = question["messages"][-1]["content"][0]["image_url"]["url"]
    return f"A {class_of(question)} beside number {len(image)}. It is a shape."


def options(instances, tiny_world, url, out, *more):
    common = ["--instances", instances, "--image-root", tiny_world.images, "--captioner", url, "--out", out]
    return [*common, "--retries", 1, "--concurrency", 2, *more]


def manifest_of(out) -> dict:
    return json.loads(Path(f"{out}.manifest.json").read_text())


def reasons(manifest, name) -> dict[str, int]:
    [ledger] = [ledger for ledger in manifest["ledgers"] if ledger["name"] == name]
    return {reason: entry["count"] for reason, entry in ledger["reasons"].items()}


def test_every_single_instance_is_described_by_the_papers_prompt(serve, run, instances, tiny_world, tmp_path):
    endpoint = serve(describe)
    out = tmp_path / "prefcoco.jsonl"
    page = tmp_path / "page.html"
    errors = run(
        *options(instances, tiny_world, endpoint.url, out, "--key-variable", "MY_KEY", "--preview", page)
    )
    records = list(read_records(out))
    expected = {
        f"{k}": [query for query in record.queries if query.objective == "locpred"]
        for k, record in enumerate(read_records(tiny_world.records))
        if k != 1
    }
    assert {record.id: [(q.category, q.box_px) for q in record.queries] for record in records} == {
        image_id: [(query.phrase, query.box_px) for query in queries]
        for image_id, queries in expected.items()
    }
    for record in records:
        assert record.source == {"image_id": record.id, "captioner": "tiny"}
        for query in record.queries:
            assert query.objective == "revloc"
            assert query.phrase.startswith(f"A {query.category} beside number ")
            assert not query.phrase.endswith(".")  # the first sentence, without its full stop
    num_objects = sum(map(len, expected.values()))
    assert len(endpoint.questions) == num_objects
    assert (
        "Describe the red square in this image using one short sentence, referring to its visual features "
        "and spatial position relative to other objects in image."
    ) in {prompt_of(question) for question in endpoint.questions}

    manifest = manifest_of(out)
    asked = {"images": 11, "objects": num_objects, "pairs": 2 * num_objects}
    assert manifest["facts"]["asked"] == asked
    assert manifest["facts"]["paper"] == {"images": 95_899, "pairs": 402_686}
    assert manifest["counts"]["sifted"] == asked
    assert f"images 11 (paper 95,899), pairs {2 * num_objects} (paper 402,686)" in errors
    assert endpoint.headers[0]["authorization"] == "Bearer sk-very-secret"
    for written in tmp_path.iterdir():
        assert b"very-secret" not in written.read_bytes()
    assert "very-secret" not in errors
    assert "A red square beside" in page.read_text()


def test_the_counts_beside_the_papers_need_no_captioner(run, instances, tmp_path):
    errors = run("--instances", instances, "--out", tmp_path / "o.jsonl", "--count-only")
    assert "images 11 (paper 95,899)" in errors
    assert not (tmp_path / "o.jsonl").exists()
    assert "--captioner and --image-root" in run("--instances", instances, "--out", "o.jsonl", fails=True)


def test_every_drop_has_its_reason_in_the_manifest(serve, run, instances, tiny_world, tmp_path):
    said = {
        "red square": "I'm sorry, I cannot see it.",
        "blue disc": "It is located at (1, 2, 3, 4).",
        "green bar": "A bar and a bar and a bar and a bar.",
    }
    endpoint = serve(lambda question, number: said.get(class_of(question)) or describe(question, number))
    out = tmp_path / "o.jsonl"
    run(*options(instances, tiny_world, endpoint.url, out))
    kept = [query for record in read_records(out) for query in record.queries]
    assert {query.category for query in kept} == {"white cross"}
    manifest = manifest_of(out)
    dropped = reasons(manifest, "descriptions")
    assert set(dropped) == {"refuses to describe", "holds coordinates", "repeats itself"}
    assert sum(dropped.values()) + len(kept) == manifest["facts"]["asked"]["objects"]
    assert manifest["counts"]["sifted"]["objects"] == len(kept)


def test_other_filters_take_no_new_answers(serve, run, instances, tiny_world, tmp_path):
    endpoint = serve(describe)
    out = tmp_path / "o.jsonl"
    run(*options(instances, tiny_world, endpoint.url, out))
    first = out.read_bytes()
    num_asked = len(endpoint.questions)
    again = run(*options(instances, tiny_world, endpoint.url, out))
    assert "is there already" in again
    whole = options(instances, tiny_world, endpoint.url, out, "--whole-answer")
    assert "whole_answer" in run(*whole, fails=True)
    assert out.read_bytes() == first
    run(*whole, "--overwrite")
    assert all(q.phrase.endswith("It is a shape") for r in read_records(out) for q in r.queries)
    assert len(endpoint.questions) == num_asked
    run(*options(instances, tiny_world, endpoint.url, out, "--prompt", "What about {category}?"), fails=True)
    assert len(endpoint.questions) == num_asked


def test_killed_again_and_again_it_ends_with_the_bytes_of_one_run(
    serve, run, start, instances, tiny_world, tmp_path
):
    whole = tmp_path / "whole.jsonl"
    run(*options(instances, tiny_world, serve(describe).url, whole))

    def slowly(question, number):
        time.sleep(0.15)
        return describe(question, number)

    endpoint = serve(slowly)
    out = tmp_path / "o.jsonl"
    answers = Path(f"{out}.answers.jsonl")
    arguments = options(instances, tiny_world, endpoint.url, out)
    for enough in (3, 6):  # lines, of which the first is the head
        process = start(PROGRAM, *arguments)
        wait_for(lambda enough=enough: num_lines(answers) >= enough, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
    answers.write_bytes(answers.read_bytes() + b'{"id": "9", "va')  # as a kill within a write leaves it
    done = num_lines(answers) - 2  # without the head and the torn line
    before = len(endpoint.questions)
    run(*arguments)
    assert out.read_bytes() == whole.read_bytes()
    assert len(endpoint.questions) - before == sum(
        len(record.queries) for record in list(read_records(out))[done:]
    )  # nothing twice


def test_killed_while_our_checkpoint_describes_the_same_answers_come(
    start, run_here, instances, tiny_world, tmp_path
):
    def arguments(out):
        local = ["--instances", instances, "--image-root", tiny_world.images, "--captioner", tiny_world.init]
        return [*local, "--batch-size", 3, "--max-new-tokens", 64, "--out", out]

    message = "no description is of use"  # what random weights say
    with pytest.raises(ValueError, match=message):
        run_here(*arguments(tmp_path / "whole.jsonl"))
    expected = (tmp_path / "whole.jsonl.answers.jsonl").read_bytes()
    answers = tmp_path / "o.jsonl.answers.jsonl"
    process = start(PROGRAM, *arguments(tmp_path / "o.jsonl"))
    wait_for(lambda: num_lines(answers) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert num_lines(answers) < len(expected.splitlines())
    with pytest.raises(ValueError, match=message):
        run_here(*arguments(tmp_path / "o.jsonl"))
    assert answers.read_bytes() == expected


def num_lines(path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for(condition, process) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError("it took more than 24 seconds")


def test_shards_merge_to_the_file_of_one_build(serve, run, instances, tiny_world, tmp_path):
    run(*options(instances, tiny_world, serve(describe).url, tmp_path / "whole.jsonl"))
    parts = [tmp_path / f"part{k}.jsonl" for k in range(2)]
    for k, part in enumerate(parts):  # each with a server of its own, on its own node
        run(*options(instances, tiny_world, serve(describe).url, part, "--shard", f"{k}/2"))
    run("--out", tmp_path / "merged.jsonl", *parts, program="data_builders/merge.py")
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    whole, merged = manifest_of(tmp_path / "whole.jsonl"), manifest_of(tmp_path / "merged.jsonl")
    assert merged["counts"] == whole["counts"]
    assert merged["facts"] == whole["facts"]
    assert merged["arguments"] == whole["arguments"]


def test_an_unreadable_image_is_counted_and_many_stop_the_build(serve, run, instances, tiny_world, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in tiny_world.images.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    (images / "5.png").write_bytes(b"no image")
    (images / "6.png").unlink()
    endpoint = serve(describe)
    common = ["--instances", instances, "--image-root", images, "--captioner", endpoint.url]
    refused = run(*common, "--out", "o.jsonl", fails=True)
    assert "image files: dropped 1 of 11" in refused
    assert endpoint.questions == []  # missing files are found before anything is asked
    refused = run(*common, "--out", "o.jsonl", "--max-dropped-fraction", 0.095, fails=True)
    assert "images asked about: dropped 1 of 10" in refused
    run(*common, "--out", "o.jsonl", "--max-dropped-fraction", 0.2, "--overwrite")
    manifest = manifest_of(tmp_path / "o.jsonl")
    assert reasons(manifest, "image files") == {"no image file": 1}
    assert reasons(manifest, "images asked about") == {"unreadable image": 1}
    assert [record.id for record in read_records(tmp_path / "o.jsonl")] == [
        str(k) for k in (0, 2, 3, 4, *range(7, 12))
    ]


@pytest.mark.parametrize(("said", "reason"), [(500, "500"), ("<hang>", "timed out")])
def test_a_server_that_fails_for_one_image_does_not_end_the_build(
    serve, run, instances, tiny_world, tmp_path, said, reason
):
    first = (tiny_world.images / "0.png").read_bytes()
    broken = []

    def moody(question, number):
        image = base64.b64decode(question["messages"][-1]["content"][0]["image_url"]["url"].partition(",")[2])
        return said if image == first and not broken else describe(question, number)

    endpoint = serve(moody)
    out = tmp_path / "o.jsonl"
    arguments = options(instances, tiny_world, endpoint.url, out, "--timeout", 2)
    refused = run(*arguments, fails=True)
    assert "images asked about: dropped 1 of 11" in refused
    assert reason in refused
    broken.append("repaired")
    num_asked = len(endpoint.questions)
    run(*arguments)
    assert {r.id for r in read_records(out)} == {str(k) for k in range(12) if k != 1}
    assert len(endpoint.questions) - num_asked <= 3  # of image 0 alone


def test_a_server_that_is_down_stops_the_build_and_a_restart_goes_on(
    serve, run, instances, tiny_world, tmp_path
):
    down = []
    endpoint = serve(lambda question, number: 503 if number > 6 and not down else describe(question, number))
    out = tmp_path / "o.jsonl"
    arguments = options(instances, tiny_world, endpoint.url, out, "--retries", 0, "--max-failures", 3)
    errors = run(*arguments, fails=True)
    assert "It seems to be down: start the same command again" in errors
    answered = [row["id"] for _, row in read_jsonl(f"{out}.answers.jsonl") if "id" in row]
    assert answered
    down.append("no more")
    run(*arguments)
    assert {r.id for r in read_records(out)} == {str(k) for k in range(12) if k != 1}


def test_the_cycle_check_needs_a_model_that_says_how_it_writes_boxes(
    serve, run, instances, tiny_world, tmp_path
):
    endpoint = serve(describe)
    out = tmp_path / "o.jsonl"
    refused = run(*options(instances, tiny_world, endpoint.url, out, "--cycle-check", 0.5), fails=True)
    assert "has no coordinate contract" in refused
    assert endpoint.questions == []
    refused = run(*options(instances, tiny_world, endpoint.url, out, "--cycle-model", "x"), fails=True)
    assert "give an IoU" in refused


def test_what_the_model_of_the_cycle_check_does_not_find_is_dropped(
    serve, run_here, instances, tiny_world, tmp_path
):
    out = tmp_path / "o.jsonl"
    model = ("--cycle-check", 0.5, "--cycle-model", tiny_world.init, "--max-new-tokens", 8)
    with pytest.raises(ValueError, match=r"no description is of use.*\d cycle check: no box in the answer"):
        run_here(*options(instances, tiny_world, serve(describe).url, out, *model))  # random weights
    cycle = [row for _, row in read_jsonl(f"{out}.cycle.jsonl")]
    assert len(cycle) == 1 + 11  # the head, and an item per image


def test_descriptions_go_end_to_end_into_stage_2(
    serve, run, run_stage, rows_of, instances, tiny_world, tmp_path
):
    out = tmp_path / "prefcoco.jsonl"
    run(*options(instances, tiny_world, serve(describe).url, out))
    localize = tmp_path / "localize.jsonl"
    run(
        *("--instances", instances, "--descriptions", out, "--negatives-per-image", 1, "--out", localize),
        program="data_builders/localize_instruct.py",
    )
    phrases = {
        query.phrase
        for record in read_records(localize)
        for query in record.queries
        if query.objective in ("locpred", "negpred")
    }
    assert phrases
    assert all("beside number" in phrase for phrase in phrases)  # no bare class gives absence away
    overrides = ("--data.sources.0.path", str(localize), "--training.max_steps", "3")
    run_stage(2, tiny_world.stage(2, tmp_path / "stage2", *overrides))
    rows = rows_of(tmp_path / "stage2")
    assert rows[-1]["step"] == 3
    assert (tmp_path / "stage2" / "final" / "config.json").exists()


def test_pictures_out_of_a_zip(serve, run, instances, tiny_world, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in tiny_world.images.iterdir():
            archive.write(path, path.name)
    endpoint = serve(describe)
    arguments = options(instances, tiny_world, endpoint.url, tmp_path / "o.jsonl")
    run(*arguments, "--image-root", tmp_path / "images.zip")
    assert len(list(read_records(tmp_path / "o.jsonl"))) == 11
