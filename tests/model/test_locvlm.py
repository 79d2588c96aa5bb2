"""LocVLM is stock LLaVA for stock keywords, in its weights and in its files."""

import math

import pytest
import torch
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from locvlm.model import locvlm as locvlm_module
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.variants import variant

IMAGE_TOKEN_ID, PAD_TOKEN_ID, NUM_PATCHES = 60, 61, 4


def stock_twin(model: LocVLM) -> LlavaForConditionalGeneration:
    """The stock class around the very same sub-modules."""
    twin = LlavaForConditionalGeneration(model.config)
    twin.model, twin.lm_head = model.model, model.lm_head
    return twin.eval()


def prompt(num_images: int = 2) -> dict[str, torch.Tensor]:
    """Two left-padded rows with an image each."""
    generator = torch.Generator().manual_seed(1)
    image = [IMAGE_TOKEN_ID] * NUM_PATCHES
    rows = [[1, *image, 5, 6, 7, 8], [PAD_TOKEN_ID, PAD_TOKEN_ID, 1, *image, 9, 10]]
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor([[int(token != PAD_TOKEN_ID) for token in row] for row in rows]),
        "pixel_values": torch.randn(num_images, 3, 8, 8, generator=generator, dtype=torch.float64),
    }


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_and_loss_equal_the_stock_class(build_model, adapter, attention):
    # eager's softmax is fp32 always: with padding, an fp64 mask overflows there to NaN in the stock class too
    model = build_model(adapter, attention=attention, exact=attention == "sdpa").eval()
    twin, inputs = stock_twin(model), prompt()
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] >= IMAGE_TOKEN_ID, -100)
    got, expected = model(**inputs, labels=labels), twin(**inputs, labels=labels)
    assert torch.equal(got.logits, expected.logits)
    assert got.loss == expected.loss
    assert torch.equal(got.image_hidden_states, expected.image_hidden_states)
    as_tuple = model(**inputs, return_dict=False)
    assert torch.equal(as_tuple[0], expected.logits)


def test_stock_generate_equals_the_stock_class(build_model):
    model = build_model().eval()
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": PAD_TOKEN_ID, "eos_token_id": 2}
    got = model.generate(**prompt(), **options)
    assert torch.equal(got, stock_twin(model).generate(**prompt(), **options))
    assert got.shape[1] > prompt()["input_ids"].shape[1]


def test_image_features_are_stock_but_the_last_layer_and_norm_do_not_run(build_model):
    model = build_model().eval()
    pixel_values = prompt()["pixel_values"]
    expected = stock_twin(model).get_image_features(pixel_values).pooler_output
    tower = model.model.vision_tower

    def must_not_run(*_):
        raise AssertionError("a layer above the one that is read was run")

    handles = [
        module.register_forward_hook(must_not_run)
        for module in (tower.encoder.layers[-1], tower.post_layernorm)
    ]
    got = model.get_image_features(pixel_values).pooler_output
    for handle in handles:
        handle.remove()
    assert torch.equal(torch.stack(got), torch.stack(list(expected)))


@pytest.mark.parametrize(
    "options", [{"vision_feature_layer": [-2, -1]}, {"vision_feature_select_strategy": "full"}]
)
def test_other_feature_choices_are_left_to_the_stock_tower(build_model, options):
    model = build_model().eval()
    if "vision_feature_layer" in options:
        model.model.multi_modal_projector = torch.nn.Identity()
    pixel_values = prompt()["pixel_values"]
    got = torch.stack(list(model.get_image_features(pixel_values, **options).pooler_output))
    expected = torch.stack(list(stock_twin(model).get_image_features(pixel_values, **options).pooler_output))
    assert torch.equal(got, expected)
    assert got.shape[1] == NUM_PATCHES + ("vision_feature_select_strategy" in options)


def test_a_wrong_number_of_images_is_an_error(build_model):
    with pytest.raises(ValueError, match="do not match"):
        build_model()(**prompt(num_images=1))


def test_checkpoints_load_both_ways_without_a_missing_weight(build_model, tmp_path):
    model = build_model(exact=False)
    model.config.locvlm = {"contract": {"codec": "ivb"}}
    model.save_pretrained(tmp_path / "ours")
    stock, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stock.save_pretrained(tmp_path / "stock")
    ours, info = LocVLM.from_pretrained(tmp_path / "stock", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert ours.config.locvlm == {"contract": {"codec": "ivb"}}
    for name, weight in model.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name
    assert (
        type(AutoModelForImageTextToText.from_pretrained(tmp_path / "ours")) is LlavaForConditionalGeneration
    )


def test_the_sizes_for_the_data_pipeline_come_from_the_configuration(build_model):
    model = build_model(exact=False)
    assert (model.spec.canvas, model.spec.patch, model.spec.num_image_tokens) == (8, 4, NUM_PATCHES)
    model.config.locvlm = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    assert model.spec.image_mean == (0.5, 0.5, 0.5)
    assert (model.text_spec.image_token_id, model.text_spec.pad_token_id) == (IMAGE_TOKEN_ID, PAD_TOKEN_ID)
    with pytest.raises(ValueError, match="init_checkpoint"):
        _ = model.contract


@pytest.mark.parametrize(
    ("name", "tokens", "act"), [("b", 256, "linear"), ("l", 576, "gelu"), ("tiny", 64, "gelu")]
)
def test_variants_have_the_papers_sizes(name, tokens, act):
    config = variant(name)
    with torch.device("meta"):
        model = LocVLM(config)
    assert model.spec.num_image_tokens == config.image_seq_length == tokens
    assert config.projector_hidden_act == act
    if name != "tiny":
        size = sum(parameter.numel() for parameter in model.model.language_model.parameters())
        assert math.isclose(size + model.lm_head.weight.numel(), 6.74e9, rel_tol=0.01)  # LLaMA-7B
    with pytest.raises(ValueError, match="b, l, tiny"):
        variant("xl")


def packed_text(target: bool = True) -> dict[str, torch.Tensor]:
    """One row: a text sample of prefix 1, 5 and branches (6,) and (7,), then padding."""
    return {
        "input_ids": torch.tensor([[1, 5, 6, 7, PAD_TOKEN_ID]]),
        "position_ids": torch.tensor([[0, 1, 2, 2, 0]]),
        "sample_ids": torch.tensor([[0, 0, 0, 0, -1]]),
        "branch_ids": torch.tensor([[0, 0, 1, 2, 0]]),
        "target_index": torch.tensor([1, 1] if target else [], dtype=torch.long),
        "target_ids": torch.tensor([6, 7] if target else [], dtype=torch.long),
        "target_weights": torch.ones(2 if target else 0),
    }


def test_the_loss_is_the_weighted_sum_over_the_steps_count(build_model):
    model = build_model().eval()
    batch = packed_text()
    logits = model(**batch, return_logits=True).logits
    losses = torch.nn.functional.cross_entropy(logits, batch["target_ids"], reduction="none")
    assert logits.shape == (2, 64)
    assert torch.equal(logits[0], logits[1])  # both branches start from the prefix's last state
    assert torch.isclose(model(**batch).loss, losses.mean())
    assert model(**batch).logits is None
    batch["target_weights"] = torch.tensor([1.0, 0.5])
    assert torch.isclose(model(**batch, num_targets=7.0).loss, (losses[0] + 0.5 * losses[1]) / 7)
    assert torch.isclose(
        model(**batch, num_targets=torch.tensor(7.0)).loss, (losses[0] + 0.5 * losses[1]) / 7
    )


def test_rows_without_targets_give_loss_zero_and_a_gradient_for_all_that_trains(build_model):
    model = build_model()
    freeze(model, train=("adapter", "llm"))
    image = {"pixel_values": torch.randn(1, 3, 8, 8, dtype=torch.float64)}
    batch = packed_text(target=False)
    row = [1, *[IMAGE_TOKEN_ID] * NUM_PATCHES]
    for name in ("sample_ids", "branch_ids"):
        batch[name] = torch.zeros(1, len(row), dtype=torch.long)
    batch["input_ids"], batch["position_ids"] = torch.tensor([row]), torch.arange(len(row))[None]
    output = model(**batch, **image, num_targets=0.0, return_logits=True)
    output.loss.backward()
    assert output.loss == 0
    assert output.logits.shape[0] == 0
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in trained)


def test_text_only_rows_send_a_blank_image_through_the_adapter_when_ranks_train_together(
    build_model, monkeypatch
):
    alone, together = build_model(), build_model()
    for model in (alone, together):
        freeze(model, train=("adapter", "llm"))
    alone(**packed_text()).loss.backward()
    assert all(parameter.grad is None for parameter in alone.model.multi_modal_projector.parameters())
    monkeypatch.setattr(locvlm_module, "world_size", lambda: 2)
    together(**packed_text()).loss.backward()
    for (name, parameter), twin in zip(together.named_parameters(), alone.parameters(), strict=True):
        if "multi_modal_projector" in name:
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name
        elif parameter.requires_grad:
            assert torch.equal(parameter.grad, twin.grad), name


@pytest.mark.parametrize(
    "missing", ["position_ids", "branch_ids", "target_weights", "target_index", "sample_ids"]
)
def test_half_a_packed_batch_is_an_error(build_model, missing):
    batch = packed_text()
    del batch[missing]
    with pytest.raises(ValueError, match="packed rows need"):
        build_model()(**batch)


def test_packed_rows_refuse_labels_masks_and_kernels_without_masks(build_model):
    model, batch = build_model(), packed_text()
    for extra in ({"labels": batch["input_ids"]}, {"attention_mask": torch.ones(1, 5)}):
        with pytest.raises(ValueError, match="neither attention_mask nor labels"):
            model(**batch, **extra)
    model.config.text_config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="attn_implementation"):
        model(**batch)


@pytest.mark.parametrize("attention", ["sdpa", "tree"])
def test_bf16_autocast_stays_close_to_fp32(build_model, attention):
    model = build_model(exact=False, attention=attention)
    batch = packed_text()
    exact = model(**batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(**batch).loss
    assert torch.isfinite(rounded)
    assert torch.isclose(rounded, exact, rtol=0.05)  # bf16 keeps 8 bits


def test_gradient_checkpointing_changes_no_gradient(build_model):
    plain, checkpointed = build_model(), build_model()
    batch = packed_text()
    batch["input_ids"] = torch.tensor([[1, *[IMAGE_TOKEN_ID] * NUM_PATCHES]])
    batch["position_ids"] = torch.arange(5)[None]
    batch["sample_ids"] = batch["branch_ids"] = torch.zeros(1, 5, dtype=torch.long)
    pixel_values = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    for model in (plain, checkpointed):
        freeze(model, train=("adapter",))
        model.train()
        model(**batch, pixel_values=pixel_values).loss.backward()
    gradients = [
        (a.grad, b.grad)
        for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True)
        if a.requires_grad
    ]
    assert gradients
    assert all(torch.equal(a, b) for a, b in gradients)
