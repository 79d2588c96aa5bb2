"""Our checkpoints as captioners: composed, and of stage 1 with its run folder."""

import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from PIL import Image

from locvlm.building.captioning.captioner import Picture, Prompted
from locvlm.building.captioning.own import Checkpoint, find_checkpoint, load_own_captioner
from locvlm.model.adapter import save_adapter
from locvlm.model.locvlm import LocVLM

SETTINGS = {"name": "mine", "max_new_tokens": 10, "prompts_per_batch": 8, "dtype": "float64", "device": ""}
PROMPTS = ("Where?", "Describe the red square in this image, a white cross.", "The blue disc, is it")


@pytest.fixture(scope="module")
def stage1(tiny_world, tmp_path_factory):
    """A run folder as stage 1 leaves it, with an adapter of other weights."""
    run = tmp_path_factory.mktemp("runs") / "stage1"
    model = LocVLM.from_pretrained(tiny_world.init)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight.neg_()
    for folder in ("final", "checkpoint-3"):
        save_adapter(model, run / folder)
    (run / "config.yaml").write_text(yaml.safe_dump({"model": {"checkpoint": str(tiny_world.init)}}))
    return run


def pictures(tiny_world) -> list[Prompted]:
    asked = []
    for k, prompts in enumerate((PROMPTS, PROMPTS[:1], PROMPTS[1:])):
        path = tiny_world.images / f"{k}.png"
        asked.append(Prompted(picture=Picture(path=path, image=Image.open(path)), prompts=prompts))
    return asked


def test_answers_of_a_batch_are_those_of_every_prompt_alone(tiny_world, stage1):
    captioner = load_own_captioner(find_checkpoint(stage1), **SETTINGS)
    with torch.no_grad():
        for parameter in captioner.answerer.model.model.language_model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)  # or a fresh model says nearly the same to everything
    asked = pictures(tiny_world)
    [together] = captioner.describe([asked])
    for item, answers in zip(asked, together, strict=True):
        for prompt, answer in zip(item.prompts, answers, strict=True):
            assert list(captioner.describe([[replace(item, prompts=(prompt,))]])) == [[[answer]]]
    assert len({answer.text for answers in together for answer in answers}) >= 3


def test_the_adapter_of_a_run_goes_into_the_checkpoint_that_it_was_trained_in(tiny_world, stage1):
    found = Checkpoint(folder=tiny_world.init, adapter=stage1 / "final")
    assert find_checkpoint(stage1) == find_checkpoint(stage1 / "final") == found
    assert find_checkpoint(stage1 / "checkpoint-3") == replace(found, adapter=stage1 / "checkpoint-3")
    assert find_checkpoint(tiny_world.init) == Checkpoint(folder=tiny_world.init)
    with_adapter = load_own_captioner(found, **SETTINGS)
    without = load_own_captioner(Checkpoint(folder=tiny_world.init), **SETTINGS)
    asked = pictures(tiny_world)
    assert list(with_adapter.describe([asked])) != list(without.describe([asked]))
    assert with_adapter.identity != without.identity


def test_lora_is_ours_and_what_is_no_checkpoint_of_ours_is_somebody_elses(tmp_path, tiny_world):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "base.json").write_text("{}")
    assert find_checkpoint(tmp_path / "lora") == Checkpoint(folder=tmp_path / "lora")
    assert find_checkpoint(tmp_path) is None
    assert find_checkpoint(tmp_path / "llava-hf" / "llava-1.5-7b-hf") is None
    assert find_checkpoint(tiny_world.root / "llm") is None


def test_folders_that_cannot_describe_say_why(tmp_path, stage1):
    (tmp_path / "begun").mkdir()
    shutil.copy(stage1 / "config.yaml", tmp_path / "begun")
    with pytest.raises(ValueError, match="no final weights yet"):
        find_checkpoint(tmp_path / "begun")

    shutil.copytree(stage1 / "final", tmp_path / "alone" / "final")
    with pytest.raises(ValueError, match=r"an adapter alone.*--adapter"):
        find_checkpoint(tmp_path / "alone" / "final")

    (tmp_path / "alone" / "config.yaml").write_text("model: {checkpoint: moved/away}")
    with pytest.raises(ValueError, match=r"trained in moved/away, which is not there"):
        find_checkpoint(tmp_path / "alone")


def test_an_answer_at_the_token_limit_is_cut_off(tiny_world):
    captioner = load_own_captioner(Checkpoint(folder=tiny_world.init), **SETTINGS)
    [[answers, *_]] = captioner.describe([pictures(tiny_world)])
    longer = replace(captioner, max_new_tokens=40)
    [[continued, *_]] = longer.describe([pictures(tiny_world)])
    cut = [a.is_cut_off for a, b in zip(answers, continued, strict=True) if a.text != b.text]
    assert cut
    assert all(cut)
