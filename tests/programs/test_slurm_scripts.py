"""The scripts for SLURM as far as they run without one: tests/distributed/test_slurm.py has the rest."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from locvlm.constants import PREEMPTED_EXIT_CODE
from locvlm.io import read_json
from locvlm.training.faults.preemption import MARKER

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "scripts" / "slurm"
SCRIPTS = sorted(FOLDER.iterdir())
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
# who reads the options that follow it on a command line
READERS = {
    "torchrun": r"\btorchrun\b(?! *=)|scripts/slurm/ranks\.sh",
    "train": r"\btrain/stage[\w$]+\.py",
    "eval/run.py": r"\beval/run\.py",
    "eval/score.py": r"\beval/score\.py",
    "scripts/cache_video_features.py": r"\bscripts/cache_video_features\.py",
}


def environment(**variables: object) -> dict[str, str]:
    """This process's, with the programs of its Python first, and without settings of the scripts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**kept, "PATH": path, **{name: str(value) for name, value in variables.items()}}


def run(script: str, *arguments: object, cwd: Path = ROOT, **variables: object):
    """A script by bash, as SLURM would start it."""
    return subprocess.run(
        ["bash", script, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def command_lines(text: str) -> list[str]:
    """Commands, those of several lines as one, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if not line.lstrip().startswith("#")]


def options_by_reader(line: str) -> dict[str, set[str]]:
    """The options on a command line, by whoever reads them: the last one named before the option."""
    starts = sorted(
        (match.start(), name) for name, what in READERS.items() for match in re.finditer(what, line)
    )
    found: dict[str, set[str]] = {}
    for (start, name), (end, _) in pairwise([*starts, (len(line), "")]):
        found.setdefault(name, set()).update(OPTION.findall(line[start:end]))
    return found


@pytest.fixture(scope="module")
def options_of():
    """options_of("eval/run.py"): what it lists under --help."""
    known: dict[str, set[str]] = {}

    def read(name: str) -> set[str]:
        if name not in known:
            torchrun = [str(Path(sys.executable).with_name("torchrun"))]
            program = {"torchrun": torchrun, "train": [sys.executable, "train/stage2.py"]}
            command = [*program.get(name, [sys.executable, name]), "--help"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            known[name] = set(OPTION.findall(done.stdout))
        return known[name]

    return read


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_every_script(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck: apt-get install shellcheck")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    command = ["shellcheck", "-x", str(path.relative_to(ROOT))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_scripts_pass_only_options_that_the_programs_have(options_of):
    passed: dict[str, set[str]] = {}
    for path in SCRIPTS:
        for line in command_lines(path.read_text()):
            for name, options in options_by_reader(line).items():
                passed.setdefault(name, set()).update(options)
    assert passed.keys() == READERS.keys()
    for name, options in passed.items():
        assert options, name
        assert options <= options_of(name), name


def test_commands_name_options_that_the_scripts_and_programs_have(options_of):
    documents = [(ROOT / "docs" / name).read_text() for name in ("cluster.md", "video.md")]
    blocks = re.findall(r"^```bash\n(.*?)^```", "\n".join(documents), re.MULTILINE | re.DOTALL)
    headers = [re.sub(r"^#", "", path.read_text(), flags=re.MULTILINE) for path in SCRIPTS]
    commands = [
        line
        for text in [*blocks, *headers]
        for line in command_lines(text)
        if re.search(r"\b(?:sbatch|bash|submit) .*scripts/slurm/(?!ranks)\w+\.", line)
    ]
    assert len(commands) >= 12
    for line in commands:
        script, rest = re.findall(r"scripts/slurm/(\w+\.(?:sbatch|sh))(.*)", line)[0]
        own, _, passed_on = rest.partition(" -- ")
        assert set(OPTION.findall(own)) <= own_options(script), line
        program = {
            "train.sbatch": "train",
            "eval_array.sbatch": "eval/run.py",
            "features_array.sbatch": "scripts/cache_video_features.py",
        }.get(script)
        overrides = ("--training.", "--data.", "--model.", "--evaluation.")
        options = {option for option in OPTION.findall(passed_on) if not option.startswith(overrides)}
        assert not program or options <= options_of(program), line


def own_options(script: str) -> set[str]:
    """What a script itself takes before `--`."""
    return set(re.findall(r"^ +(--[a-z][\w-]*)\) ", (FOLDER / script).read_text(), re.MULTILINE))


def test_scripts_and_programs_agree_on_how_a_run_says_that_it_was_told_to_leave():
    for name in ("train.sbatch", "ranks.sh"):
        text = (FOLDER / name).read_text()
        assert str(PREEMPTED_EXIT_CODE) in text
        assert set(re.findall(r"\$run/(\w+\.json)", text)) == {MARKER}


# ---- the folder of a run


def run_folder(*arguments: object):
    command = 'source scripts/slurm/common.sh; run_folder "$@"'
    return subprocess.run(
        ["bash", "-c", command, "bash", *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [([], "runs/tiny/stage2"), (["--training.output_dir=runs/other"], "runs/other")],
)
def test_the_run_folder_is_what_the_program_will_resolve(overrides, expected):
    done = run_folder(2, "train/configs/tiny.yaml", *overrides)
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_a_configuration_with_errors_is_refused_before_ranks_start():
    done = run_folder(2, "train/configs/tiny.yaml", "--data.conversation", "vicuna")
    assert (done.returncode, done.stdout) == (1, "")
    assert "vicuna_v1" in done.stderr


# ---- ranks.sh: signals, with and without the rest of the tree being signalled

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
run, how = Path(sys.argv[1]), sys.argv[2]
told = []
signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
(run / "began").write_text(str(os.getpid()))
if how == "fails":
    sys.exit(3)
for _ in range(600):
    if told:
        print("saving", flush=True)
        (run / "preempted.json").write_text("{}")
        sys.exit(85)
    time.sleep(0.1)
"""


def start_ranks(tmp_path: Path, how: str) -> subprocess.Popen:
    """ranks.sh on one node with one rank, once this has begun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "program.py").write_text(PROGRAM)
    ranks = ["--nnodes", 1, "--nproc-per-node", 1, "--master-addr", "127.0.0.1", "--master-port", port]
    arguments = [tmp_path, tmp_path / "logs", *ranks, tmp_path / "program.py", tmp_path, how]
    started = subprocess.Popen(
        ["bash", str(FOLDER / "ranks.sh"), *map(str, arguments)],
        cwd=ROOT,
        env=environment(SLURM_NODEID=0),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 100
    while not (tmp_path / "began").exists():
        assert time.monotonic() < deadline, "the rank never began"
        assert started.poll() is None or how == "fails", started.communicate()[0]
        time.sleep(0.1)
    return started


@pytest.mark.parametrize(
    ("whom", "number"),
    [
        ("the task", signal.SIGUSR1),
        ("its whole tree", signal.SIGUSR1),  # which torchrun would die of
        ("its whole tree", signal.SIGTERM),  # on which torchrun would kill the ranks after a while
    ],
)
def test_a_signal_reaches_the_ranks_whether_slurm_signals_the_task_or_its_tree(tmp_path, whom, number):
    ranks = start_ranks(tmp_path, "waits")
    task = psutil.Process(ranks.pid)
    for process in [task, *(task.children(recursive=True) if whom == "its whole tree" else [])]:
        process.send_signal(number)
    output, _ = ranks.communicate(timeout=60)
    assert ranks.returncode == PREEMPTED_EXIT_CODE, output
    assert "saving" in output  # rank 0 is shown
    (log,) = (tmp_path / "logs" / "node0").glob("*/attempt_0/0/stdout.log")
    assert log.read_text() == "saving\n"


def test_a_failing_rank_is_a_failure(tmp_path):
    ranks = start_ranks(tmp_path, "fails")
    output, _ = ranks.communicate(timeout=60)
    assert ranks.returncode == 1, output
    assert "exitcode  : 3" in output


# ---- arrays

ARRAY = {"SLURM_ARRAY_TASK_MIN": 0, "SLURM_ARRAY_TASK_MAX": 3, "SLURM_ARRAY_TASK_COUNT": 4}


@pytest.fixture
def checkout(tmp_path):
    """A folder with these scripts and a builder that prints its arguments."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "slurm").symlink_to(FOLDER)
    (tmp_path / "data_builders").mkdir()
    (tmp_path / "data_builders" / "show.py").write_text("import sys; print(*sys.argv[1:], sep='|')")
    return tmp_path


def build(checkout: Path, *arguments: object, **variables: object):
    return run("scripts/slurm/build_array.sbatch", "--builder", "show", *arguments, cwd=checkout, **variables)


def test_each_index_builds_its_piece(checkout):
    done = build(checkout, "--", "--out", "a b/{index}-of-{count}.jsonl", **ARRAY, SLURM_ARRAY_TASK_ID=2)
    assert (done.stdout, done.stderr) == ("--out|a b/2-of-4.jsonl\n", "")


def test_a_shard_is_passed_on_when_asked_for(checkout):
    alone = {"SLURM_ARRAY_TASK_MIN": 3, "SLURM_ARRAY_TASK_MAX": 3, "SLURM_ARRAY_TASK_COUNT": 1}
    options = ["--shard", 1, "--count", 16, "--", "--out", "{index}"]
    done = build(checkout, *options, **alone, SLURM_ARRAY_TASK_ID=3)
    assert (done.stdout, done.stderr) == ("--out|3|--shard|3/16\n", "")
    refused = build(checkout, *options[:2], "--", "--out", "{index}", **alone, SLURM_ARRAY_TASK_ID=3)
    assert refused.returncode == 2
    assert "say how many pieces there are" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x"], "put {index} into --out"),
        (["--count", 2, "--", "{index}"], "indices go from 0 to 1"),
        (["--bilder", "x"], "does not know --bilder"),
    ],
)
def test_an_array_that_cannot_be_right_is_refused(checkout, arguments, said):
    separator = [] if arguments[0] in ("--count", "--bilder") else ["--"]
    done = build(checkout, *separator, *arguments, **ARRAY, SLURM_ARRAY_TASK_ID=2)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_each_index_makes_its_part_of_the_features(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "slurm").symlink_to(FOLDER)
    program = tmp_path / "scripts" / "cache_video_features.py"
    program.write_text("import sys; print(*sys.argv[1:], sep='|')")
    script, options = (
        "scripts/slurm/features_array.sbatch",
        ["--config", "a.yaml", "--", "--data.video_cache", "f"],
    )
    done = run(script, *options, cwd=tmp_path, **ARRAY, SLURM_ARRAY_TASK_ID=2, SLURM_CPUS_PER_TASK=16)
    said = "--config|a.yaml|--shard|2/4|--workers|15|--data.video_cache|f\n"
    assert (done.stdout, done.stderr) == (said, "")
    alone = {**ARRAY, "SLURM_ARRAY_TASK_MIN": 3, "SLURM_ARRAY_TASK_MAX": 3, "SLURM_ARRAY_TASK_COUNT": 1}
    done = run(script, "--config", "a.yaml", cwd=tmp_path, **alone, SLURM_ARRAY_TASK_ID=3)
    assert (done.returncode, done.stdout) == (2, "")
    assert "say how many parts there are" in done.stderr
    done = run(script, "--count", 16, *options, cwd=tmp_path, **alone, SLURM_ARRAY_TASK_ID=3)
    assert "--shard|3/16|--workers|2|" in done.stdout


EVALUATION = {"MODEL": "model", "TASKS": "locpred,present absent", "OUTPUT_DIR": "eval"}


def test_an_index_without_a_task_is_refused():
    done = run("scripts/slurm/eval_array.sbatch", **EVALUATION, SLURM_ARRAY_TASK_ID=2)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 2 words" in done.stderr


def test_each_index_asks_its_share_of_its_word(checkout):
    (checkout / "eval").mkdir()
    (checkout / "eval" / "run.py").write_text("import sys; print(*sys.argv[1:], sep='|')")
    settings = {**EVALUATION, "SHARDS": 3, "cwd": checkout}
    for index, word, part, shard in [
        (0, "locpred,present", "locpred+present", 0),
        (5, "absent", "absent", 2),
    ]:
        done = run("scripts/slurm/eval_array.sbatch", "--", "--x", 1, **settings, SLURM_ARRAY_TASK_ID=index)
        asked = f"--model|model|--tasks|{word}|--output-dir|eval/parts/{part}|--shard|{shard}/3|--x|1\n"
        assert (done.stdout, done.stderr) == (asked, "")
    done = run("scripts/slurm/eval_array.sbatch", **settings, SLURM_ARRAY_TASK_ID=6)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 2 words, times 3 shards" in done.stderr
    done = run("scripts/slurm/eval_array.sbatch", "--shards", 0, **settings, SLURM_ARRAY_TASK_ID=0)
    assert (done.returncode, done.stdout) == (2, "")
    assert "got '0'" in done.stderr


@pytest.mark.slow
def test_an_array_of_evaluations_becomes_one(tiny_world, tmp_path):
    settings = {**EVALUATION, "MODEL": tiny_world.init, "OUTPUT_DIR": tmp_path}
    asked = ["--records", tiny_world.records, "--image-root", tiny_world.images, "--limit", 2]
    for index in range(4):
        done = run(
            "scripts/slurm/eval_array.sbatch",
            "--shards",
            2,
            "--",
            *asked,
            **settings,
            SLURM_ARRAY_TASK_ID=index,
        )
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["absent", "locpred+present"]
    done = run("scripts/slurm/collect.sh", tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "scores.json")["tasks"].keys() == {"absent", "locpred", "present"}
