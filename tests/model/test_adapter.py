"""Adapters: the linear kind stays linear, and adapter-only folders go back only where they came from."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from locvlm.model.adapter import load_adapter, match_embeddings, reset_adapter, save_adapter
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.variants import variant

IMAGE_TOKEN_ID, NUM_PATCHES = 60, 4


def facts(**changes):
    return {"contract": {"codec": "ivb", "frame": "stretch", "canvas": 8}, "tower": "abc", **changes}


def one_step(model: LocVLM) -> None:
    row = torch.tensor([[1, *[IMAGE_TOKEN_ID] * NUM_PATCHES, 5, 6]])
    pixel_values = torch.randn(1, 3, 8, 8, dtype=model.dtype)
    loss = model(
        input_ids=row, pixel_values=pixel_values, labels=row.masked_fill(row == IMAGE_TOKEN_ID, -100)
    ).loss
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1).step()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_matched_adapter_puts_images_out_as_long_as_words(build_model, kind):
    model = build_model(kind)
    projector, words = model.model.multi_modal_projector, 0.02 * torch.randn(50, 24)
    reset_adapter(projector, kind, seed=0)
    features = 6.6 * torch.randn(8, NUM_PATCHES, 16, dtype=torch.float64)  # long, as a small tower's are
    before = projector(features).square().mean().sqrt().item()
    match_embeddings(projector, features, words)
    after = projector(features).square().mean().sqrt().item()
    assert before > 50 * after
    assert after == pytest.approx(0.02, rel=0.1)
    if kind == "linear":
        assert torch.equal(projector.linear_2.weight, torch.eye(24, dtype=torch.float64))


@pytest.mark.parametrize("stage", [("adapter",), ("adapter", "llm")])
def test_training_a_linear_adapter_leaves_its_second_layer_the_identity(build_model, stage):
    model = build_model("linear")
    projector = model.model.multi_modal_projector
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    freeze(model, train=stage)
    one_step(model)
    assert torch.equal(projector.linear_2.weight, torch.eye(24, dtype=torch.float64))
    assert not projector.linear_2.bias.any()
    assert not torch.equal(projector.linear_1.weight, before["model.multi_modal_projector.linear_1.weight"])
    patches = torch.randn(2, NUM_PATCHES, 16, dtype=torch.float64)
    assert torch.equal(projector(patches), projector.linear_1(patches))


def test_an_mlp_adapter_trains_whole(build_model):
    model = build_model("mlp")
    rows = {row.part: row for row in freeze(model, train=("adapter",))}
    projector = model.model.multi_modal_projector
    assert rows["adapter"].num_trained == sum(parameter.numel() for parameter in projector.parameters())
    before = projector.linear_2.weight.clone()
    one_step(model)
    assert not torch.equal(projector.linear_2.weight, before)


def test_freeze_trains_what_is_named_and_counts_it(build_model):
    model = build_model("linear")
    rows = {row.part: row for row in freeze(model, train=("adapter", "llm"))}
    assert rows["vision_tower"].num_trained == 0 < rows["vision_tower"].num_total
    assert rows["llm"].num_trained == rows["llm"].num_total
    assert rows["adapter"].num_trained == 16 * 24 + 24  # linear_1 alone
    assert sum(row.num_total for row in rows.values()) == sum(p.numel() for p in model.parameters())
    assert sum(row.num_trained for row in rows.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    for wrong in ((), ("projector",)):
        with pytest.raises(ValueError, match="vision_tower, adapter, llm"):
            freeze(model, train=wrong)


def test_fresh_weights_depend_on_the_seed_alone(build_model):
    first, second = build_model("mlp", exact=False), build_model("mlp", exact=False)
    torch.manual_seed(123)
    for model, seed in ((first, 5), (second, 5)):
        reset_adapter(model.model.multi_modal_projector, "mlp", seed=seed)
    weights = [model.model.multi_modal_projector.linear_1.weight.clone() for model in (first, second)]
    assert torch.equal(*weights)
    reset_adapter(second.model.multi_modal_projector, "mlp", seed=6)
    assert not torch.equal(weights[0], second.model.multi_modal_projector.linear_1.weight)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_an_adapter_goes_through_its_folder_unchanged(build_model, tmp_path, kind):
    source, target = build_model(kind, exact=False, seed=1), build_model(kind, exact=False, seed=2)
    source.config.locvlm = facts()
    target.config.locvlm = facts(
        contract={"codec": "nfp", "frame": "stretch", "canvas": 8}
    )  # the codec may differ
    save_adapter(source, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter.safetensors", "adapter_config.json"}
    load_adapter(target, tmp_path)
    for name, weight in source.model.multi_modal_projector.state_dict().items():
        assert torch.equal(target.model.multi_modal_projector.state_dict()[name], weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (facts(contract={"codec": "ivb", "frame": "pad"}), "frame is 'stretch' there and 'pad' here"),
        (facts(tower="def"), "tower is 'abc' there and 'def' here"),
    ],
)
def test_an_adapter_of_another_frame_or_tower_is_refused(build_model, tmp_path, change, message):
    source, target = build_model(exact=False, seed=1), build_model(exact=False, seed=2)
    source.config.locvlm, target.config.locvlm = facts(), change
    save_adapter(source, tmp_path)
    before = target.model.multi_modal_projector.linear_1.weight.clone()
    with pytest.raises(ValueError, match=message):
        load_adapter(target, tmp_path)
    assert torch.equal(target.model.multi_modal_projector.linear_1.weight, before)


def test_an_adapter_of_another_kind_or_size_is_refused(build_model, tmp_path):
    save_adapter(build_model("linear", exact=False), tmp_path)
    with pytest.raises(ValueError, match="kind is 'linear' there and 'mlp' here"):
        load_adapter(build_model("mlp", exact=False), tmp_path)
    save_adapter(build_model("mlp", exact=False), tmp_path)
    with pytest.raises(ValueError, match="vision_width is 16 there and 192 here"):
        load_adapter(LocVLM(variant("tiny")), tmp_path)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_adapter_weights_must_match_name_by_name(build_model, tmp_path, damage):
    model = build_model(exact=False)
    save_adapter(model, tmp_path)
    weights = load_file(tmp_path / "adapter.safetensors")
    if damage == "missing":
        del weights["linear_2.bias"]
    elif damage == "extra":
        weights["linear_3.weight"] = torch.zeros(1)
    else:
        weights["linear_1.bias"] = torch.zeros(3)
    save_file(weights, tmp_path / "adapter.safetensors")
    message = {
        "missing": "linear_2.bias",
        "extra": "linear_3.weight",
        "shape": r"shape \(3,\), expected \(24,\)",
    }
    with pytest.raises(ValueError, match=message[damage]):
        load_adapter(model, tmp_path)


def test_a_folder_without_an_adapter_or_with_a_broken_one_is_refused(build_model, tmp_path):
    model = build_model(exact=False)
    with pytest.raises(ValueError, match="output of stage 1"):
        load_adapter(model, tmp_path)
    save_adapter(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["canvas"] == 8
    (tmp_path / "adapter.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="cannot be read"):
        load_adapter(model, tmp_path)


# ---- LLaVA's adapter-only files


def llava_file(model: LocVLM, kind: str, prefix: str) -> dict[str, torch.Tensor]:
    """The adapter as LLaVA's stage 1 saves it; a linear one has a single layer there."""
    layers = {"mlp": {"linear_1": "0.", "linear_2": "2."}, "linear": {"linear_1": ""}}[kind]
    weights = {}
    for name, weight in model.model.multi_modal_projector.state_dict().items():
        layer, last = name.split(".")
        if layer in layers:
            weights[f"{prefix}{layers[layer]}{last}"] = weight
    return weights


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("prefix", ["model.mm_projector.", "base_model.model.model.mm_projector."])
def test_an_mm_projector_file_is_an_adapter_too(build_model, tmp_path, kind, prefix):
    source, target = build_model(kind, exact=False, seed=1), build_model(kind, exact=False, seed=2)
    torch.save(llava_file(source, kind, prefix), tmp_path / "mm_projector.bin")
    target.config.locvlm = facts()  # what the file does not say is not compared
    for path in (tmp_path / "mm_projector.bin", tmp_path):
        reset_adapter(target.model.multi_modal_projector, kind, seed=2)
        load_adapter(target, path)
        for name, weight in source.model.multi_modal_projector.state_dict().items():
            assert torch.equal(target.model.multi_modal_projector.state_dict()[name], weight), name


def test_an_mm_projector_file_of_another_kind_or_with_more_in_it_is_refused(build_model, tmp_path):
    linear, mlp = build_model("linear", exact=False), build_model("mlp", exact=False)
    path = tmp_path / "mm_projector.bin"
    torch.save(llava_file(linear, "linear", "model.mm_projector."), path)
    before = mlp.model.multi_modal_projector.linear_1.weight.clone()
    with pytest.raises(ValueError, match=r"holds a linear adapter, .* --adapter linear"):
        load_adapter(mlp, path)
    weights = llava_file(mlp, "mlp", "model.mm_projector.")
    del weights["model.mm_projector.2.bias"]
    torch.save({**weights, "model.embed_tokens.weight": torch.ones(3, 2)}, path)
    with pytest.raises(
        ValueError, match=r"1 missing: linear_2\.bias\. 1 unknown: model\.embed_tokens\.weight"
    ):
        load_adapter(mlp, path)
    assert torch.equal(mlp.model.multi_modal_projector.linear_1.weight, before)


def test_the_file_of_an_adapter_only_folder_may_be_named_itself(build_model, tmp_path):
    source, target = build_model(exact=False, seed=1), build_model(exact=False, seed=2)
    save_adapter(source, tmp_path)
    load_adapter(target, tmp_path / "adapter.safetensors")
    weights = [m.model.multi_modal_projector.linear_1.weight for m in (source, target)]
    assert torch.equal(*weights)
