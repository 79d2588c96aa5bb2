"""What --model stands for decides how it is opened; what it is not, the error says."""

import argparse
import json
import shutil
import subprocess
import sys

import pytest

from locvlm.answering.baselines import Baseline
from locvlm.answering.llava import LlavaAnswerer
from locvlm.answering.locvlm import LocVLMAnswerer
from locvlm.answering.options import add_model_options, open_model
from locvlm.answering.server import ServerAnswerer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def parse(*arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    return parser.parse_args(list(map(str, arguments)))


def opened(*arguments):
    return open_model(parse("--model", *arguments))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """hub(name, folder): the folder as the hub's cache has it; nothing is fetched here."""

    def put(name, folder):
        cached = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text(COMMIT)
        shutil.copytree(folder, cached / "snapshots" / COMMIT)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return put


def test_what_the_name_stands_for_decides_the_model(tiny_world, foreign, serve):
    ours = opened(tiny_world.init)
    assert isinstance(ours.answerer, LocVLMAnswerer)
    assert "conversation vicuna_v1" in ours.description
    for kind, expected in (("llava", LlavaAnswerer), ("blip-2/opt", Baseline), ("kosmos-2", Baseline)):
        other = opened(foreign(kind))
        assert isinstance(other.answerer, expected)
        assert other.name == str(foreign(kind))
        assert kind.split("/")[0] in other.description
    endpoint = serve(lambda question, number: "fine")
    served = opened(endpoint.url, "--convention", "llava")
    assert isinstance(served.answerer, ServerAnswerer)
    assert served.answerer.contract.codec == "llava"
    assert served.checkpoint == ("tiny", "server's tiny")
    assert opened(endpoint.url).answerer.contract is None


def test_fingerprints_tell_weights_apart_and_not_where_they_are(tiny_world, foreign, tmp_path):
    marks = [
        opened(folder).fingerprint for folder in (tiny_world.init, foreign("llava"), foreign("kosmos-2"))
    ]
    assert len(set(marks)) == 3
    moved = shutil.copytree(foreign("llava"), tmp_path / "moved")
    assert opened(moved).fingerprint == marks[1]


@pytest.mark.parametrize("kind", ["llava", "instructblip/t5"])
def test_a_name_on_the_hub_is_opened_by_its_type_and_marked_with_its_revision(hub, foreign, kind):
    hub("somebody/model", foreign(kind))
    model = opened("somebody/model")
    assert model.checkpoint == ("somebody/model", f"somebody/model@{COMMIT}")
    assert isinstance(model.answerer, LlavaAnswerer if kind == "llava" else Baseline)


def test_an_export_of_ours_on_the_hub_is_ours(hub, tiny_world):
    hub("somebody/ours", tiny_world.init)
    model = opened("somebody/ours")
    assert isinstance(model.answerer, LocVLMAnswerer)
    assert model.name == "somebody/ours"


def test_a_name_that_is_neither_here_nor_on_the_hub_says_so(hub):
    with pytest.raises(ValueError, match=r"there is no folder some/thing, and it cannot be fetched"):
        opened("some/thing")


def test_a_type_that_nobody_knows_how_to_ask_is_refused_with_the_list(tiny_world, tmp_path):
    with pytest.raises(
        ValueError, match=r"of the type 'llama'.* llava, blip-2, instructblip, kosmos-2\. Start a server"
    ):
        opened(tiny_world.root / "llm")
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match="of the type None"):
        opened(tmp_path)


def test_options_that_do_not_go_together_are_refused(tiny_world, foreign, serve, tmp_path):
    with pytest.raises(ValueError, match=r"--convention is for models of others"):
        opened(tiny_world.init, "--convention", "llava")
    with pytest.raises(ValueError, match=r"--convention is for servers and LLaVA; blip-2 has its own"):
        opened(foreign("blip-2/opt"), "--convention", "llava")
    for model in (foreign("llava"), serve(lambda question, number: "fine").url):
        with pytest.raises(ValueError, match="--adapter and --base go with a checkpoint of ours"):
            opened(model, "--adapter", tmp_path)


def test_options_are_read_without_torch():
    code = "import sys, locvlm.answering.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
