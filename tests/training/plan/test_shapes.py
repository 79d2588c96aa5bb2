import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LLAMA_PROJECTIONS, LoraSettings, apply_lora
from locvlm.model.variants import variant
from locvlm.training.plan.shapes import Scope, count_parameters, lora_size, meta_model, model_config, shape_of

STAGE1, STAGE2 = Scope(stage="stage1"), Scope(stage="stage2")


@pytest.mark.parametrize(
    ("name", "llm", "tower", "adapter"),
    [("b", "llama-7b", "clip-l-14-224", "linear"), ("l", "llama-2-7b", "clip-l-14-336", "mlp")],
)
def test_a_described_model_has_the_parameters_of_its_variant(name, llm, tower, adapter):
    described = model_config("no/such/folder", llm=llm, tower=tower, adapter=adapter)
    assert shape_of(described) == shape_of(variant(name))
    sizes = [parameter.shape for parameter in meta_model(described).parameters()]
    assert sizes == [parameter.shape for parameter in meta_model(variant(name)).parameters()]


def test_the_parts_of_the_large_model_are_those_of_the_real_classes():
    """On the meta device, where 7 billion parameters take no memory."""
    parameters = count_parameters(variant("b"), STAGE2)
    with torch.device("meta"):
        language, tower = (
            LlamaForCausalLM(variant("b").text_config),
            CLIPVisionModel(variant("b").vision_config),
        )
    num_language = sum(p.numel() for p in language.parameters())
    assert parameters["llm"].total + parameters["embeddings"].total + parameters["head"].total == num_language
    assert parameters["tower"].total == sum(p.numel() for p in tower.parameters())
    assert parameters["adapter"].total == (1024 + 1) * 4096 + (4096 + 1) * 4096
    # 6.74 billion parameters of LLaMA-7B (Touvron et al. 2023, table 2), and 64 padded rows twice
    assert num_language == 6_738_415_616 + 2 * 64 * 4096


def test_stage_1_trains_the_adapter_without_its_identity_and_stage_2_the_llm_too():
    stage1, stage2 = (count_parameters(variant("b"), scope) for scope in (STAGE1, STAGE2))
    assert {name: part.trained for name, part in stage1.items() if part.trained} == {"adapter": 1025 * 4096}
    assert {name for name, part in stage2.items() if part.trained} == {"adapter", "llm", "embeddings", "head"}
    assert stage2["llm"].trained == stage2["llm"].total
    mlp = count_parameters(variant("l"), STAGE1)["adapter"]
    assert mlp.trained == mlp.total


@pytest.mark.parametrize("targets", [LLAMA_PROJECTIONS, ("k_proj", "down_proj")])
def test_lora_has_the_parameters_that_it_puts_into_the_real_model(tiny_world, targets):
    settings = LoraSettings(rank=4, targets=targets)
    model = LocVLM(model_config(tiny_world.init))
    before = sum(p.numel() for p in model.parameters())
    apply_lora(model, settings)
    added = sum(p.numel() for p in model.parameters()) - before
    assert added == lora_size(shape_of(model.config), settings)
    parameters = count_parameters(model.config, Scope(stage="stage2", lora=settings))
    assert parameters["lora"].trained == parameters["lora"].total == added
    assert parameters["llm"].trained == parameters["head"].trained == 0


def test_parts_can_be_folders(tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=99)).save_pretrained(tmp_path / "llm")
    vision = CLIPVisionConfig(**sizes, image_size=28, patch_size=14, projection_dim=8)
    CLIPVisionModel(vision).save_pretrained(tmp_path / "clip")
    config = model_config(
        "no/such/folder", llm=str(tmp_path / "llm"), tower=str(tmp_path / "clip"), adapter="mlp"
    )
    shape = shape_of(config)
    assert (shape.vocabulary, shape.layers, shape.image_tokens, shape.tower_layers) == (99, 2, 4, 1)


def test_a_checkpoint_that_stands_needs_no_description(tiny_world):
    config = model_config(tiny_world.init)
    assert shape_of(config).width == 32
    with torch.device("meta"):
        assert sum(part.total for part in count_parameters(config, STAGE2).values()) == sum(
            p.numel() for p in meta_model(config).parameters()
        )


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, r"no/such/folder/config\.json yet; describe the model.*--llm llama-7b"),
        ({"llm": "llama-7b"}, r"missing --tower, --adapter"),
        ({"llm": "lama-7b", "tower": "tiny", "adapter": "mlp"}, r"--llm.*'lama-7b'.*nearest is 'llama-7b'"),
        ({"llm": "tiny", "tower": "clip-l-14", "adapter": "mlp"}, r"--tower.*nearest is 'clip-l-14-"),
        ({"llm": "tiny", "tower": "tiny", "adapter": "mlpp"}, r"--adapter.*nearest is 'mlp'"),
    ],
)
def test_a_model_that_is_not_known_is_an_error_that_names_the_nearest(description, message):
    with pytest.raises(ValueError, match=message):
        model_config("no/such/folder", **description)


def test_another_kind_of_checkpoint_is_refused(tmp_path):
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds a 'llama' model, expected 'llava'"):
        model_config(tmp_path)
