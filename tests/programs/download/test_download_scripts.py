"""The scripts of scripts/download/, one per source: what they say and write, and runs to their ends."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "scripts" / "download"
SCRIPTS = [path for path in sorted(FOLDER.glob("*.sh")) if not path.name.startswith("common")]


def rows_of(listed: str) -> list[dict[str, str]]:
    """What --list prints, by its heads."""
    head, *lines = (line.split("\t") for line in listed.splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_the_shell_reads_every_script(path):
    read = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize(
    ("files", "options"),
    [([FOLDER / "common.sh"], ["-x"]), (SCRIPTS, ["-e", "SC1091,SC2154"])],
    ids=["common", "sources"],
)
def test_shellcheck_has_nothing_to_say(files, options):
    # one that sources common.sh is read without it: 1091, not followed; 2154, `root` comes from there
    said = subprocess.run(
        ["shellcheck", *options, *files], capture_output=True, text=True, cwd=FOLDER, check=False
    )
    assert (said.returncode, said.stdout) == (0, "")


def test_every_source_of_the_papers_has_a_script():
    expected = "activitynet ade20k cc3m_595k coco gqa lcs_558k llava_instruct pope refcoco vqav2"
    assert [path.stem for path in SCRIPTS] == expected.split()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_licence_size_checksum_and_what_it_writes(path):
    head = path.read_text().split("\nsource ")[0]
    for word in ("Licence:", "Size:", "Checksum", "Writes: DATA_ROOT/", f"bash scripts/download/{path.name}"):
        assert word in head
    assert re.search(r"[Ss]ection|[Ss]tage|Table", head), "what it is for"


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help_is_the_head_of_the_script_and_what_all_of_them_know(path, option, download, server, tmp_path):
    helped = download(path, option, tmp_path / "data")
    assert helped.returncode == 0, helped.stderr
    head = path.read_text().split("\nsource ")[0].splitlines()[1:]
    assert helped.stdout.startswith("\n".join(line.removeprefix("# ") for line in head) + "\n\n")
    for word in ("DATA_ROOT ", "PART ", "--list ", "--no-unpack ", "LOCVLM_DOWNLOAD_TRIES=6 "):
        assert word in helped.stdout
    assert not (tmp_path / "data").exists()
    assert server.requests == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_list_tells_everything_and_does_nothing(path, tmp_path, server, download):
    listed = download(path, "--list", tmp_path / "data", LOCVLM_DOWNLOAD_BASE="")
    rows = rows_of(listed.stdout)
    assert rows
    assert not (tmp_path / "data").exists()
    for row in rows:
        assert re.fullmatch(r"https?://[\w.-]+/[^ ]+", row["address"])
        assert re.fullmatch(r"\d+|about [\d.]+ [MG]B|not known", row["bytes"])
        assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{32}|none published", row["checksum"])
        assert row["file"].startswith(f"{tmp_path}/data/")
        assert row["gives"].startswith(f"{tmp_path}/data")
    assert len({row["file"] for row in rows}) == len(rows)
    last = rows[-1]["part"]
    only = rows_of(download(path, "--list", tmp_path / "data", last).stdout)
    assert [row["file"] for row in only] == [row["file"] for row in rows if row["part"] == last]
    assert all(row["address"].startswith(f"{server.base}/") for row in only)
    assert server.requests == []


@pytest.fixture
def given(download) -> dict[str, set[str]]:
    """Paths below DATA_ROOT that each script gives."""
    return {
        path.name: {row["gives"].removeprefix("R/") for row in rows_of(download(path, "--list", "R").stdout)}
        for path in SCRIPTS
    }


def is_given(name: str, given: set[str]) -> bool:
    return any(name == path or path.startswith(f"{name}/") or name.startswith(f"{path}/") for path in given)


TASKS = sorted((ROOT / "eval" / "tasks").glob("*.yaml"))
NOT_FETCHED = ("vsr/", "whatsup/", "activitynet/videos")  # by no script


def data_of(task: Path) -> dict:
    return {"source": "", "image_root": "", "options": {}, **yaml.safe_load(task.read_text())["data"]}


def scripts_named(source: str) -> set[str]:
    return set(re.findall(r"scripts/download/(\w+\.sh)", source))


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_a_task_that_misses_its_data_names_the_scripts_that_give_it(path, given):
    data = data_of(path)
    names = {data["file"], data["image_root"], *(str(v) for v in data["options"].values() if "/" in str(v))}
    if command := re.match(r"python data_builders/.*?(?= \(|$)", data["source"]):
        names |= set(shlex.split(command[0]))  # what it is built from
    giving = {script for script, paths in given.items() if any(is_given(name, paths) for name in names)}
    assert scripts_named(data["source"]) == giving


def test_scripts_write_where_evaluations_look(given):
    used = set()
    for path in TASKS:
        data = data_of(path)
        named = scripts_named(data["source"])
        if named:
            here = set().union(*(given[script] for script in named))
            names = [data["image_root"]] + [data["file"]] * ("data_builders/" not in data["source"])
            for name in names:
                assert name.startswith(NOT_FETCHED) or is_given(name, here), f"{path.name}: {name}"
        used |= named
    assert used == {"activitynet.sh", "ade20k.sh", "coco.sh", "gqa.sh", "pope.sh", "refcoco.sh", "vqav2.sh"}


def test_scripts_write_where_configurations_look(given):
    everything = set().union(*given.values())
    checked = set()
    for path in sorted((ROOT / "train" / "configs").glob("*.yaml")):
        for source in yaml.safe_load(path.read_text()).get("data", {}).get("sources", []):
            names = [source.get("image_root", "")]
            if source.get("kind") == "llava":
                names.append(source["path"])
            for name in names:
                if name.startswith("data/"):
                    assert is_given(name.removeprefix("data/"), everything), f"{path.name}: {name}"
                    checked.add(name)
    assert {"data/cc3m", "data/lcs558k", "data/llava15", "data/VideoInstruct100K.json"} <= checked


def test_an_unknown_part_or_option_is_refused_before_anything_is_fetched(tmp_path, server, download):
    refused = download(FOLDER / "pope.sh", tmp_path / "data", "random", "popular?")
    assert refused.returncode == 1
    assert "no part is called popular?; there are: random popular adversarial" in refused.stderr
    assert "unknown option --all" in download(FOLDER / "pope.sh", "--all").stderr
    assert server.requests == []
    assert not (tmp_path / "data").exists()


@pytest.fixture
def serve(server, download, zipped, tmp_path):
    """serve(script, contents): puts contents behind its addresses, by their last part.

    Returns a copy of the script that expects their sizes and checksums in place of the real ones.
    """

    def put(script, contents):
        copied = shutil.copytree(FOLDER, tmp_path / "scripts", dirs_exist_ok=True) / script
        for row in rows_of(download(FOLDER / script, "--list", "R").stdout):
            content = contents[row["address"].rsplit("/", 1)[1]]
            data = content if isinstance(content, bytes) else zipped(content)
            server.files[row["address"].removeprefix(server.base)] = data
            text = copied.read_text()
            for said, true in (
                (row["checksum"], hashlib.sha256(data).hexdigest()),
                (row["bytes"], len(data)),
            ):
                if not said.startswith(("about", "not known", "none published")):
                    assert text.count(said) == 1
                    text = text.replace(said, str(true))
            copied.write_text(text)
        return copied

    return put


WHOLE = {
    "ade20k.sh": {"ADEChallengeData2016.zip": {"ADEChallengeData2016/objectInfo150.txt": b"1"}},
    "coco.sh": {
        f"{name}.zip": {f"{name}/{name}.jpg": name.encode()}
        for name in ("train2014", "val2014", "train2017", "val2017")
    }
    | {
        f"annotations_trainval{year}.zip": {f"annotations/instances_val{year}.json": b"{}"}
        for year in (2014, 2017)
    },
    "llava_instruct.sh": {
        "llava_instruct_150k.json": b"[]",
        "llava_v1_5_mix665k.json": b"[{}]",
        "train_val_images.zip": {"train_images/1.jpg": b"1"},
        "images.zip": {"VG_100K/1.jpg": b"1"},
        "images2.zip": {"VG_100K_2/2.jpg": b"2"},
    },
    "gqa.sh": {
        "questions1.2.zip": {"testdev_balanced_questions.json": b"{}", "train_all_questions/0.json": b"{}"},
        "images.zip": {"images/1.jpg": b"1"},
    },
    "pope.sh": {f"coco_pope_{name}.json": b"{}\n" for name in ("random", "popular", "adversarial")},
    "refcoco.sh": {
        f"{name}.zip": {f"{name}/refs({split}).p": b"p", f"{name}/instances.json": b"{}"}
        for name, split in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"))
    },
    "vqav2.sh": {
        f"v2_{kind}_{split.title()}_mscoco.zip": {f"v2_{name.format(split)}.json": b""}
        for split in ("train", "val")
        for kind, name in (
            ("Questions", "OpenEnded_mscoco_{}2014_questions"),
            ("Annotations", "mscoco_{}2014_annotations"),
        )
    },
    "cc3m_595k.sh": {"chat.json": b"[]", "images.zip": {"GCC_train_000000000.jpg": b"0"}},
    "lcs_558k.sh": {"blip_laion_cc_sbu_558k.json": b"[]", "images.zip": {"00000/000000010.jpg": b"0"}},
}


@pytest.mark.parametrize("script", WHOLE)
def test_a_script_gives_what_its_list_says(script, tmp_path, server, download, serve):
    path = serve(script, WHOLE[script])
    done = download(path, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    rows = rows_of(download(path, "--list", tmp_path / "data").stdout)
    assert rows
    for row in rows:
        assert Path(row["gives"]).exists()
    assert len(server.requests) == len(rows)
    assert download(path, tmp_path / "data").returncode == 0
    assert len(server.requests) == len(rows)


def test_activitynet_lists_its_videos_and_says_where_to_ask_for_them(tmp_path, download, serve):
    videos = {"b2": "training", "a1": "training", "c3": "validation"}
    database = {"database": {name: {"subset": subset} for name, subset in videos.items()}}
    questions = {f"{split}_{kind}.json": b"[]" for split in ("train", "val", "test") for kind in "qa"}
    annotations = {
        "activity_net.v1-3.min.json": json.dumps(database).encode(),
        "VideoInstruct100K.json": b"[]",
    }
    script = serve("activitynet.sh", {**questions, **annotations})
    data = tmp_path / "data"
    done = download(script, data)
    assert done.returncode == 0, done.stderr
    assert "ask for them by the form on http://activity-net.org/download.html" in done.stdout
    listed = (data / "activitynet/training_videos.txt").read_text()
    assert listed == "https://www.youtube.com/watch?v=a1\nhttps://www.youtube.com/watch?v=b2\n"
    assert (data / "activitynet_qa/test_q.json").exists()
    assert (data / "VideoInstruct100K.json").exists()


def test_the_mix_of_665k_finds_the_images_of_coco_and_gqa(tmp_path, server, download):
    mix = "/datasets/liuhaotian/LLaVA-Instruct-150K/resolve/main/llava_v1_5_mix665k.json"
    server.files[mix] = b"[]"
    data = tmp_path / "data"
    (data / "coco/train2017").mkdir(parents=True)
    for _ in range(2):
        done = download(FOLDER / "llava_instruct.sh", data, "mix665k")
        assert done.returncode == 0, done.stderr
    assert (data / "llava15/coco/train2017").is_dir()
    assert (data / "llava15/gqa").readlink() == Path("../gqa")


@pytest.mark.parametrize("part", ["coco.sh val2017", "ade20k.sh scene_parsing", "llava_instruct.sh 158k"])
def test_the_recorded_sizes_are_held_against_what_comes(part, tmp_path, server, download, zipped):
    script, name = part.split()
    (row,) = rows_of(download(FOLDER / script, "--list", tmp_path / "data", name).stdout)
    server.files[row["address"].removeprefix(server.base)] = zipped({"val2017/1.jpg": b"1"})
    refused = download(FOLDER / script, tmp_path / "data", name)
    assert refused.returncode == 1
    assert f"bytes instead of {row['bytes']}" in refused.stderr
    assert not Path(row["file"]).exists()
