"""What a folder is decides how it is opened; what it is not, the error says."""

import re
import shutil

import pytest
import torch

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.checkpoints import fingerprint
from locvlm.answering.locvlm import load_answerer
from locvlm.data.image import load_image
from locvlm.export.hf import export_hf
from locvlm.export.merge import merge_checkpoint
from locvlm.model.adapter import save_adapter
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings, apply_lora, save_lora


@pytest.fixture(scope="module")
def lora(tiny_world, tmp_path_factory):
    """What a run with LoRA leaves, with matrices and an adapter that change answers."""
    folder, settings = tmp_path_factory.mktemp("run") / "final", LoraSettings(rank=2, alpha=4.0)
    model = LocVLM.from_pretrained(tiny_world.init)
    apply_lora(model, settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name or "linear_1" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    save_lora(model, folder, settings, base=str(tiny_world.init))
    return folder


@pytest.fixture
def answers(tiny_world):
    """answers(answerer): to some questions."""
    asked = [
        Asked(image=load_image(tiny_world.images / f"{i}.png"), questions=["Where is it?", "What is it?"])
        for i in range(4)
    ]
    return lambda answerer: answerer.answer(asked, Decoding(max_new_tokens=8))


def test_what_a_lora_run_leaves_answers_as_the_merged_checkpoint(tiny_world, lora, answers, tmp_path):
    merge_checkpoint(tiny_world.init, lora, tmp_path / "merged")
    found = answers(load_answerer(lora))
    assert found == answers(load_answerer(tmp_path / "merged"))
    assert found != answers(load_answerer(tiny_world.init))


def test_the_base_of_a_lora_run_may_have_moved(tiny_world, lora, answers, tmp_path):
    moved = shutil.copytree(lora, tmp_path / "lora")
    text = (moved / "base.json").read_text().replace(str(tiny_world.init), "gone/init")
    (moved / "base.json").write_text(text)
    with pytest.raises(ValueError, match=r"from gone/init, which holds no config\.json.*Give it as --base"):
        load_answerer(moved)
    assert answers(load_answerer(moved, base=tiny_world.init)) == answers(load_answerer(lora))
    with pytest.raises(ValueError, match="--base is for what a run with LoRA leaves"):
        load_answerer(tiny_world.init, base=tiny_world.init)


def test_an_export_answers_as_its_checkpoint(tiny_world, answers, tmp_path):
    export_hf(tiny_world.init, tmp_path / "export")
    assert answers(load_answerer(tmp_path / "export")) == answers(load_answerer(tiny_world.init))


def test_an_adapter_alone_says_how_to_give_it(tiny_world, lora, tmp_path):
    adapter = tmp_path / "stage1" / "final"
    save_adapter(LocVLM.from_pretrained(tiny_world.init), adapter)
    with pytest.raises(ValueError, match=rf"--model the checkpoint it was trained from, --adapter {adapter}"):
        load_answerer(adapter)
    load_answerer(tiny_world.init, adapter=adapter)
    with pytest.raises(ValueError, match="has an adapter of its own"):
        load_answerer(lora, adapter=adapter)


def test_a_run_folder_names_its_checkpoints(tiny_world, tmp_path):
    for name in ("final", "checkpoint-20"):
        shutil.copytree(tiny_world.init, tmp_path / "run" / name)
    (tmp_path / "run" / "logs").mkdir()
    with pytest.raises(ValueError, match=r"give one of the checkpoints in it: checkpoint-20, final$"):
        load_answerer(tmp_path / "run")


def test_what_is_no_checkpoint_is_refused(tiny_world, tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json; expected a LocVLM checkpoint"):
        load_answerer(tmp_path)
    with pytest.raises(ValueError, match=r"hf download llava-hf/llava-1\.5-7b-hf"):
        load_answerer(type(tmp_path)("llava-hf/llava-1.5-7b-hf"))
    broken = shutil.copytree(tiny_world.init, tmp_path / "broken")
    other = LocVLM.from_pretrained(tiny_world.init)
    other.save_pretrained(
        broken, state_dict={k: v for k, v in other.state_dict().items() if "q_proj" not in k}
    )
    with pytest.raises(ValueError, match=rf"weights in {re.escape(str(broken))} do not fit .*missing"):
        load_answerer(broken)


def test_fingerprints_tell_apart_what_answers_differently(tiny_world, lora, tmp_path):
    adapter = tmp_path / "adapter"
    save_adapter(LocVLM.from_pretrained(tiny_world.init), adapter)
    marks = [fingerprint(tiny_world.init), fingerprint(lora), fingerprint(tiny_world.init, adapter)]
    assert len(set(marks)) == 3
    assert fingerprint(lora, base=tiny_world.init) == marks[1]
    copied = shutil.copytree(tiny_world.init, tmp_path / "copy")
    assert fingerprint(copied) == marks[0]
