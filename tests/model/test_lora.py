"""LoRA wraps the language model's projections alone, and merged it is a plain model with the same logits."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlavaForConditionalGeneration

from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import (
    LLAMA_PROJECTIONS,
    LoraSettings,
    apply_lora,
    attach_lora,
    load_lora,
    merge_lora,
    save_lora,
)
from locvlm.model.variants import llava_config

SMALL = LoraSettings(rank=4, alpha=8.0, dropout=0.0)
CONTRACT = {"contract": {"codec": "ivb", "frame": "stretch", "canvas": 8}, "tower": "abc"}


@pytest.fixture
def base(build_model):
    """The same random model in fp32 each time it is asked for."""

    def build(kind: str = "mlp") -> LocVLM:
        model = build_model(kind, exact=False).eval()
        model.config.locvlm = dict(CONTRACT)
        return model

    return build


def train(model: LocVLM, seed: int = 0) -> None:
    """Stand-in for training: LoRA and adapter move away from where they started."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name or "multi_modal_projector.linear_1" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    """(1, S, V)"""
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[1, *[60] * 4, 5, 6, 7, 8]])
    pixels = torch.randn(1, 3, 8, 8, generator=generator)
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, pixel_values=pixels).logits
    return logits


def lora_names(model: torch.nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if ".lora_" in name}


def test_the_language_models_projections_are_wrapped_and_nothing_else(base):
    model = base()
    tower = {name for name, _ in model.model.vision_tower.named_parameters()}
    assert any("q_proj" in name for name in tower)  # the trap: the same names
    apply_lora(model, SMALL)
    names = lora_names(model)
    assert len(names) == 2 * 2 * len(LLAMA_PROJECTIONS)  # lora_A and lora_B, two layers
    assert all(name.startswith("model.language_model.layers.") for name in names)
    assert {name for name, _ in model.model.vision_tower.named_parameters()} == tower
    assert type(model) is LocVLM


def test_chosen_targets_alone_are_wrapped(base):
    model = base()
    apply_lora(model, LoraSettings(rank=2, alpha=4.0, targets=("q_proj", "v_proj")))
    assert {name.split(".")[5] for name in lora_names(model)} == {"q_proj", "v_proj"}


def test_at_first_nothing_changes_and_the_seed_says_what_is_drawn(base):
    plain, first, second, other = base(), base(), base(), base()
    apply_lora(first, SMALL, seed=1)
    torch.manual_seed(99)
    apply_lora(second, SMALL, seed=1)
    apply_lora(other, SMALL, seed=2)
    assert torch.equal(logits_of(first.eval()), logits_of(plain))
    name = "model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight"
    drawn = [model.get_parameter(name) for model in (first, second, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_lora_and_the_adapter_train_and_all_else_stays(base, kind):
    model = base(kind)
    apply_lora(model, SMALL)
    table = {row.part: row for row in freeze(model, train=("adapter", "lora"))}
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ids = torch.tensor([[1, *[60] * 4, 5, 6, 7, 8]])
    for _ in range(2):  # lora_A gets a gradient once lora_B is no longer zero
        loss = model(
            input_ids=ids, pixel_values=torch.ones(1, 3, 8, 8), labels=ids.masked_fill(ids == 60, -100)
        )
        loss.loss.backward()
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        torch.optim.SGD(trained.values(), lr=0.1).step()
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == set(trained)
    assert lora_names(model) < moved
    others = {name for name in moved if ".lora_" not in name}
    assert others
    assert all(name.startswith("model.multi_modal_projector.") for name in others)
    assert ("model.multi_modal_projector.linear_2.weight" in others) == (kind == "mlp")
    assert table["lora"].num_trained == table["lora"].num_total > 0 == table["llm"].num_trained


def test_lora_does_not_train_where_there_is_none(base):
    with pytest.raises(ValueError, match="the model has none"):
        freeze(base(), train=("adapter", "lora"))
    assert "lora" not in {row.part for row in freeze(base(), train=("adapter",))}


def test_merged_is_a_plain_model_with_the_same_logits(base):
    model = base()
    names = set(model.state_dict())
    tower = {name: weight.clone() for name, weight in model.model.vision_tower.state_dict().items()}
    apply_lora(model, SMALL)
    train(model)
    expected = logits_of(model.eval())
    assert (expected - logits_of(base())).abs().max() > 0.1
    merge_lora(model)
    torch.testing.assert_close(logits_of(model), expected, rtol=1e-5, atol=1e-5)
    assert set(model.state_dict()) == names
    for name, weight in model.model.vision_tower.state_dict().items():
        assert torch.equal(weight, tower[name]), name
    with pytest.raises(ValueError, match="no LoRA layers"):
        merge_lora(model)
    apply_lora(model, SMALL)  # as plain as before, it can be wrapped again


def test_saved_merged_and_loaded_again_it_is_the_same(base, tmp_path):
    model = base()
    apply_lora(model, SMALL)
    train(model)
    expected = logits_of(model.eval())
    save_lora(model, tmp_path / "lora", SMALL, base="checkpoints/init")
    files = {path.relative_to(tmp_path / "lora").as_posix() for path in (tmp_path / "lora").rglob("*.*")}
    assert files >= {
        "lora/adapter_model.safetensors",
        "lora/adapter_config.json",
        "adapter/adapter.safetensors",
        "adapter/adapter_config.json",
        "base.json",
    }
    again = base()
    assert attach_lora(again, tmp_path / "lora") == SMALL
    assert torch.equal(logits_of(again.eval()), expected)
    merge_lora(again)
    again.save_pretrained(tmp_path / "whole")
    loaded, info = LocVLM.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(logits_of(loaded.eval()), expected, rtol=1e-5, atol=1e-5)


def test_a_run_goes_on_from_what_it_saved(base, tmp_path):
    model, resumed = base(), base()
    for each in (model, resumed):
        apply_lora(each, SMALL)
    train(model)
    save_lora(model, tmp_path, SMALL, base="init")
    load_lora(resumed, tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name


def test_the_contract_comes_with_the_lora_and_the_tower_is_compared(base, tmp_path):
    model = base()
    model.config.locvlm = {**CONTRACT, "contract": {**CONTRACT["contract"], "codec": "nfp", "frame": "pad"}}
    apply_lora(model, SMALL)
    save_lora(model, tmp_path, SMALL, base="init")
    again = base()  # says ivb and stretch, as before training
    attach_lora(again, tmp_path)
    assert again.config.locvlm == model.config.locvlm
    other = base()
    other.config.locvlm = {**CONTRACT, "tower": "def"}
    with pytest.raises(ValueError, match="tower is 'abc' there and 'def' here"):
        attach_lora(other, tmp_path)


def test_peft_itself_reads_the_folder(base, tmp_path):
    model = base()
    apply_lora(model, SMALL)
    train(model)
    expected = logits_of(model.eval())
    save_lora(model, tmp_path, SMALL, base="init")
    assert (
        json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "init"
    )
    plain = base()
    stock = LlavaForConditionalGeneration(plain.config)
    stock.load_state_dict(plain.state_dict())
    stock.model.multi_modal_projector.load_state_dict(model.model.multi_modal_projector.state_dict())
    wrapped = PeftModel.from_pretrained(stock.eval(), tmp_path / "lora")
    torch.testing.assert_close(logits_of(wrapped), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank 0"),
        ({"rank": -4}, "rank -4"),
        ({"alpha": 0.0}, r"alpha 0\.0"),
        ({"dropout": 1.0}, r"dropout 1\.0"),
        ({"targets": ()}, "q_proj"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LoraSettings(**values)


def test_unknown_targets_are_named_with_those_there_are(base):
    known = r"down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(ValueError, match=rf"targets fc1, query are no layers .*it has {known}"):
        apply_lora(base(), LoraSettings(targets=("q_proj", "query", "fc1")))  # fc1 is the tower's


def test_a_model_is_wrapped_once(base):
    model = base()
    apply_lora(model, SMALL)
    with pytest.raises(ValueError, match="LoRA layers already"):
        apply_lora(model, SMALL)


def test_the_lora_of_another_base_is_refused(base, tmp_path):
    model = base()
    apply_lora(model, SMALL)
    save_lora(model, tmp_path, SMALL, base="checkpoints/init")
    text = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=64
    )
    wider = LocVLM(llava_config(base().config.vision_config, text, "mlp", image_token_id=60, pad_token_id=61))
    wider.config.locvlm = dict(CONTRACT)
    with pytest.raises(ValueError, match=r"hidden_size is 24 there and 32 here.*checkpoints/init"):
        attach_lora(wider, tmp_path)


def test_lora_weights_that_do_not_fit_are_listed(base, tmp_path):
    model = base()
    apply_lora(model, SMALL)
    save_lora(model, tmp_path, SMALL, base="init")
    path = tmp_path / "lora" / "adapter_model.safetensors"
    weights = load_file(path)
    first = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
    assert weights.pop(first).shape == (4, 24)
    save_file({**weights, "lora.extra": torch.ones(1)}, path)
    with pytest.raises(
        ValueError, match=r"1 missing: base_model.*q_proj\.lora_A\.weight\. 1 unknown: lora\.extra"
    ):
        load_lora(model, tmp_path)
    other = base()
    apply_lora(other, LoraSettings(rank=2, alpha=4.0))
    save_file({**weights, first: torch.ones(4, 24)}, path)
    with pytest.raises(ValueError, match=r"of another shape: .* has shape \(4, 24\), expected \(2, 24\)"):
        load_lora(other, tmp_path)


def test_a_folder_without_lora_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"no LoRA folder: it has no base\.json"):
        attach_lora(base(), tmp_path)
