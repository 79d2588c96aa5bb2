"""The rules of the repository, of which CONTRIBUTING.md tells: layers, programs, documents, configs."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROGRAM_ROOMS = ("train", "eval", "data_builders", "scripts")
FOUNDATION = 0
LAYERS = {
    **dict.fromkeys(("coords", "annotations"), 1),
    **dict.fromkeys(("objectives", "data", "model"), 2),
    **dict.fromkeys(("pages", "answering"), 3),
    **dict.fromkeys(("training", "evals", "export", "building"), 4),
    "benchmarks": 5,
}
WORLD_MAY_IMPORT = {"world", "coords", "annotations"}  # beside the foundation
WITHOUT_TORCH = {"coords", "annotations", "objectives"}
TORCH_LIKE = {"torch", "transformers", "deepspeed", "peft", "accelerate", "open_clip", "torchvision"}
MAX_LINES = 500


def files_of_the_repository() -> list[Path]:
    """Every file that git tracks or would track; without git, every file outside of ignored folders."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for name in sorted(set(listed.stdout.splitlines())) if (path := ROOT / name).is_file()]
    skipped = {".venv", ".git", "runs", "data", "build", "__pycache__"}
    found = (path for path in sorted(ROOT.rglob("*")) if path.is_file())
    return [
        p for p in found if not skipped.intersection(p.relative_to(ROOT).parts) or "locvlm" in p.parts[-3:]
    ]


FILES = files_of_the_repository()
NAMES = {path: path.relative_to(ROOT).as_posix() for path in FILES}
PYTHON = [path for path in FILES if path.suffix == ".py"]
LIBRARY = [path for path in PYTHON if NAMES[path].startswith("locvlm/")]
PROGRAMS = [path for path in PYTHON if NAMES[path].split("/")[0] in PROGRAM_ROOMS]
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]
TEXTS = [
    path
    for path in FILES
    if path.suffix in {".py", ".md", ".sh", ".sbatch", ".yaml", ".json", ".toml", ".txt"}
]


def test_the_lists_that_the_other_tests_loop_over_are_not_empty() -> None:
    for files in (LIBRARY, PROGRAMS, DOCUMENTS, TEXTS):
        assert len(files) >= 3


def room_of(module: str) -> str:
    """The room of a locvlm module; the foundation's files are their own rooms of layer 0."""
    return module.split(".")[1] if "." in module else ""


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "locvlm":
                yield from ((node.lineno, f"locvlm.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def may_import(room: str, other: str) -> bool:
    """Whether a module of `room` may import one of `other`: its own room, or one of a lower layer."""
    is_foundation = other not in LAYERS and other != "world"
    if room == other or is_foundation:
        return True
    if room == "world" or other == "world":
        return room == "benchmarks" or (room == "world" and other in WORLD_MAY_IMPORT)
    return LAYERS[other] < LAYERS.get(room, FOUNDATION)


def test_the_layer_rule_itself() -> None:
    assert may_import("data", "coords")
    assert may_import("training", "data")
    assert may_import("io", "config")
    assert not may_import("data", "model")
    assert not may_import("coords", "annotations")
    assert not may_import("data", "training")
    assert not may_import("io", "coords")
    assert not may_import("evals", "training")
    assert may_import("building", "pages")
    assert not may_import("building", "evals")
    assert not may_import("training", "world")
    assert may_import("benchmarks", "training")
    assert may_import("benchmarks", "world")
    assert not may_import("training", "benchmarks")


@pytest.mark.parametrize("path", LIBRARY, ids=NAMES.get)
def test_imports_point_down_the_layers(path: Path) -> None:
    room = path.relative_to(ROOT / "locvlm").parts[0].removesuffix(".py")
    for line, module in imports_of(path):
        top = module.split(".")[0]
        assert top not in PROGRAM_ROOMS, f"{NAMES[path]}:{line}: the library imports a program: {module}"
        if room in WITHOUT_TORCH:
            assert top not in TORCH_LIKE, f"{NAMES[path]}:{line}: {room} works without {top}"
        if top == "locvlm":
            assert may_import(room, room_of(module)), f"{NAMES[path]}:{line}: {room} must not import {module}"


@pytest.mark.parametrize("path", PROGRAMS, ids=NAMES.get)
def test_programs_import_the_library_and_never_each_other(path: Path) -> None:
    beside = {other.stem for other in PROGRAMS if other.parent == path.parent} | set(PROGRAM_ROOMS)
    for line, module in imports_of(path):
        assert module.split(".")[0] not in beside, f"{NAMES[path]}:{line}: imports the program {module}"


def test_contributing_names_every_file_of_the_foundation() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ +L0 +(.+)$", text, re.MULTILINE)
    files = {path.stem for path in LIBRARY if path.parent == ROOT / "locvlm"} - {"__init__"}
    assert set(line.split()) == files


@pytest.mark.parametrize("path", PROGRAMS, ids=NAMES.get)
def test_the_commands_in_a_programs_docstring_can_be_copied(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    commands = [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("    ")]
    assert commands, f"{NAMES[path]}: the docstring shows no command"
    for line in commands:
        words = line.split()
        assert words[0] in {"python", "torchrun", "deepspeed", "bash"}, f"{NAMES[path]}: {line!r}"
        assert sum(word.endswith((".py", ".sh")) for word in words) == 1, f"{NAMES[path]}: {line!r}"


@pytest.mark.parametrize("path", PROGRAMS, ids=NAMES.get)
def test_no_program_is_named_like_a_module_that_it_would_hide(path: Path) -> None:
    assert path.name != "__init__.py", "program rooms are no packages"
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in importlib.metadata.packages_distributions()


@pytest.mark.parametrize("path", [p for p in PYTHON if p.name == "__init__.py"], ids=NAMES.get)
def test_packages_re_export_nothing(path: Path) -> None:
    statements = ast.parse(path.read_text()).body[1:]  # after the docstring
    allowed = ["from locvlm import torchvision_shim", "__version__ =", "torchvision_shim.install()"]
    for statement in statements:
        text = ast.unparse(statement)
        assert NAMES[path] == "locvlm/__init__.py", (
            f"{NAMES[path]} holds {text!r}; import from the file itself"
        )
        assert any(text.startswith(start) for start in allowed), text


@pytest.mark.parametrize("path", PYTHON, ids=NAMES.get)
def test_no_file_is_longer_than_a_reader_can_hold(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", TEXTS, ids=NAMES.get)
def test_no_path_of_one_machine_and_no_package_host_is_written_down(path: Path) -> None:
    # [x] keeps this file from finding itself
    wrong = re.compile(
        r"/(wor[k]|far[m]|roo[t]|hom[e])/\w|pypi\.or[g]|pythonhoste[d]|download\.pytorc[h]|index-ur[l]"
    )
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        assert not wrong.search(line), f"{NAMES[path]}:{number}: {line.strip()}"


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix in {".yaml", ".yml", ".json"}], ids=NAMES.get)
def test_every_yaml_and_json_file_loads(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    else:
        yaml.safe_load(path.read_text(encoding="utf-8"))


PATH_IN_TEXT = re.compile(
    r"(?<![\w/.-])((?:locvlm|train|eval|data_builders|scripts|ds_configs|tests|docs|\.ci)/[\w./*{},-]*[\w/*}]"
    r"|[A-Z]{4,}(?:\.md)?(?=`)|(?:pyproject\.toml|constraints\.txt|setup\.py))(?![\w<])"
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES.get)
def test_every_path_in_a_document_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in sorted(set(PATH_IN_TEXT.findall(text))):
        if name.isupper():
            continue  # a word in capitals
        assert list(ROOT.glob(name.rstrip("/"))), f"{NAMES[path]} names {name}, which does not exist"
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
        assert (path.parent / link).exists(), f"{NAMES[path]} links to {link}, which does not exist"


def commands_of(document: Path) -> Iterator[str]:
    """The program or script of each command line in a document's code blocks."""
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield from re.findall(r"(?:^|\s)((?:scripts|train|eval|data_builders)/\w+\.(?:py|sh))\b", line)


def test_every_command_in_the_readme_is_run_by_a_test() -> None:
    tests = "\n".join(
        path.read_text() for path in PYTHON if NAMES[path].startswith("tests/") and path != Path(__file__)
    )
    phases = sorted((ROOT / "locvlm" / "world" / "demo").glob("*.py"))  # of the demo, which a test runs
    demo = "\n".join(path.read_text() for path in phases)
    commands = sorted(set(commands_of(ROOT / "README.md")))
    assert "scripts/demo.sh" in commands
    assert "scripts/test.sh" in commands
    for name in commands:
        program, folder = Path(name).name, Path(name).parts[0]
        named = re.compile(rf"{folder}/{program}|{folder}[\"'] */ *[\"']{program}")
        is_this = name == "scripts/test.sh"
        assert is_this or named.search(tests) or named.search(demo), f"no test runs {name}"


@pytest.mark.parametrize("path", [p for p in PROGRAMS if p.parent.parent == ROOT], ids=NAMES.get)
def test_help_answers_without_loading_torch(path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(path)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert not done.code, done.code\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout, "no option is listed"


def test_every_test_that_a_document_names_exists() -> None:
    named = {
        (path, name)
        for document in DOCUMENTS
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.read_text(encoding="utf-8"))
    }
    assert named
    for path, name in sorted(named):
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {name}"
