"""Parts of a predictions file become the file that one process writes; what is missing is said."""

import subprocess
import sys
from dataclasses import replace

import pytest

from locvlm.evals.asking.ask import AskOptions
from locvlm.evals.asking.parts import collect_folder, part_of, parts_of
from locvlm.evals.asking.predict import ALL, predict_task
from locvlm.evals.asking.store import locked, meta_path, predictions_path, read_predictions
from locvlm.evals.score import score_folder
from locvlm.shard import Shard


@pytest.fixture
def run(val, scripted, locpred_task, tmp_path):
    """run(folder name, shard): the file that was written; counts questions in run.asked."""

    def predict(name, shard=ALL, *, fingerprint="f"):
        answerer = scripted(lambda question, image: f"{question} {image.getpixel((0, 0))}")
        path = predict_task(
            answerer,
            locpred_task,
            records=val.path,
            folder=tmp_path / name,
            options=AskOptions(image_root=val.images, batch_size=2),
            checkpoint=("runs/x", fingerprint),
            shard=shard,
        )
        predict.asked = sum(map(sum, answerer.batches))
        return path

    return predict


def files_in(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shards_collected_for_scoring_are_the_file_of_one_process(run, tmp_path, count):
    run("whole")
    for index in reversed(range(count)):
        part = run("parts", Shard(index, count))
        assert part.name == f"locpred.part-{index}-of-{count}.jsonl"
    collect_folder(tmp_path / "parts")
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")
    collect_folder(tmp_path / "parts")
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")


def test_a_start_without_a_shard_collects_what_there_is_and_asks_the_rest(run, tmp_path):
    run("whole")
    run("parts", Shard(2, 3))
    run("parts", Shard(0, 2))  # of another division: the first image
    run("parts")
    assert run.asked == 2
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")


def test_a_shard_does_not_ask_what_is_answered_in_the_file(run, val, tmp_path):
    path = run("whole")
    whole = files_in(tmp_path / "whole")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # the second of the second image is torn
    for index in range(3):
        run("whole", Shard(index, 3))
        assert run.asked == (0, 1, 2)[index]
    with pytest.raises(ValueError, match=r"in parts \(0/3, 1/3, 2/3\) with 6 of 6 answers.*without --shard"):
        collect_folder(tmp_path / "whole")  # whose order nobody knows here
    run("whole")
    assert run.asked == 0
    assert files_in(tmp_path / "whole") == whole


def test_missing_parts_are_not_collected(run, locpred_task, tmp_path):
    run("parts", Shard(0, 3))
    run("parts", Shard(2, 3))
    before = files_in(tmp_path / "parts")
    with pytest.raises(ValueError, match=r"in parts \(0/3, 2/3\) with 4 of 6 answers; start the missing"):
        collect_folder(tmp_path / "parts")
    assert files_in(tmp_path / "parts") == before
    run("parts", Shard(1, 3))
    collect_folder(tmp_path / "parts")
    assert score_folder(tmp_path / "parts", [locpred_task])["tasks"]["locpred"]["asked"] == 6


def test_parts_of_another_making_are_not_mixed(run, tmp_path):
    run("parts", Shard(0, 2))
    run("parts", Shard(1, 2), fingerprint="other")
    with pytest.raises(ValueError, match=r"part-1-of-2\.jsonl was made with fingerprint = 'other'"):
        collect_folder(tmp_path / "parts")
    with pytest.raises(ValueError, match="was made with fingerprint"):
        run("parts")


def test_a_file_that_another_process_writes_is_left_to_it(run, tmp_path):
    part = run("whole", Shard(0, 2))
    hold = (
        "import sys; from locvlm.locks import hold_lock; lock = hold_lock(sys.argv[1], what='writing it'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, f"{part}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        for shard in (ALL, Shard(0, 2)):
            with pytest.raises(ValueError, match=r"another process is writing .*part-0-of-2\.jsonl"):
                run("whole", shard)
        other.stdin.close()
        other.wait(timeout=20)
    run("whole")
    assert run.asked == 4


def test_an_answer_replaces_a_question_without_an_image(run, val, tmp_path):
    picture = (val.images / "1.png").read_bytes()
    whole = run("whole").read_bytes()
    (val.images / "1.png").write_bytes(b"broken")
    path = run("parts")
    assert sum(bool(p.failed) for p in read_predictions(path)) == 2
    (val.images / "1.png").write_bytes(picture)
    run("parts", Shard(1, 3))
    assert run.asked == 2
    run("parts")
    assert run.asked == 0
    assert path.read_bytes() == whole


def test_names_of_parts_lead_back_to_them(tmp_path):
    path = predictions_path(tmp_path, "locpred", "blank")
    shard = Shard(3, 16)
    part = part_of(path, shard)
    assert part.name == "locpred.blank.part-3-of-16.jsonl"
    assert meta_path(part).name == "locpred.blank.part-3-of-16.meta.json"
    assert part_of(path, Shard(0, 1)) == path
    path.parent.mkdir()
    for index in (10, 3, 2):
        part_of(path, replace(shard, index=index)).touch()
    assert list(parts_of(path)) == [Shard(2, 16), Shard(3, 16), Shard(10, 16)]
    assert parts_of(predictions_path(tmp_path, "locpred", "real")) == {}


def test_a_lock_is_gone_afterwards(tmp_path):
    path = predictions_path(tmp_path, "locpred", "real")
    with locked(path):
        assert [file.name for file in path.parent.iterdir()] == ["locpred.jsonl.lock"]
    assert list(path.parent.iterdir()) == []
