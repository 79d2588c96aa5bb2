"""LoRA folder and base become one checkpoint, which appears only when its logits are right."""

import pytest
import torch

from locvlm.data.tokenize import load_tokenizer
from locvlm.export.hf import export_hf
from locvlm.export.merge import merge_checkpoint
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings, apply_lora, attach_lora, save_lora

SMALL = LoraSettings(rank=4, alpha=8.0, dropout=0.5)


@pytest.fixture
def build_lora(build_checkpoint, tmp_path):
    """build_lora(dtype, scale): (base folder, LoRA folder), as a run in `dtype` would leave it."""

    def build(dtype=torch.float32, scale=0.05):
        base = build_checkpoint(adapter="mlp")
        if dtype != torch.float32:
            whole = LocVLM.from_pretrained(base, dtype=dtype)
            base = tmp_path / "base"
            whole.save_pretrained(base)
            load_tokenizer(build_checkpoint(adapter="mlp")).save_pretrained(base)
        model = LocVLM.from_pretrained(base, dtype=dtype)
        contract = {**model.config.locvlm["contract"], "codec": "nfp"}
        model.config.locvlm = {**model.config.locvlm, "contract": contract, "trained_on_locations": True}
        apply_lora(model, SMALL)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name or "multi_modal_projector" in name:
                    parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(dtype))
        save_lora(model, tmp_path / "lora", SMALL, base=str(base))
        return base, tmp_path / "lora"

    return build


def probe(model):
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(7))
    ids = torch.tensor([[1, *[model.config.image_token_id] * 4, 17, 5, 9]])
    with torch.inference_mode():
        return model.eval()(input_ids=ids, pixel_values=pixels.to(model.dtype)).logits.float()


def test_the_merged_folder_gives_the_logits_of_base_and_lora(build_lora, tmp_path):
    base, lora = build_lora()
    merge_checkpoint(base, lora, tmp_path / "merged")
    together = LocVLM.from_pretrained(base)
    before = probe(together)
    attach_lora(together, lora)
    expected = probe(together)
    assert (expected - before).abs().max() > 0.01
    merged = LocVLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(probe(merged), expected, rtol=1e-5, atol=1e-5)
    assert merged.contract.codec == "nfp"  # as trained; the base says ivb
    assert merged.config.locvlm["trained_on_locations"]
    export_hf(tmp_path / "merged", tmp_path / "exported")  # whole: the rest of the code opens it


def test_a_half_precision_base_stays_half_precision(build_lora, tmp_path):
    base, lora = build_lora(torch.bfloat16)
    merge_checkpoint(base, lora, tmp_path / "merged")
    merged = LocVLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}


def test_a_merge_that_changes_the_logits_leaves_nothing_behind(build_lora, tmp_path, monkeypatch):
    base, lora = build_lora()
    monkeypatch.setattr("locvlm.export.merge.merge_lora", lambda model: model.lm_head.weight.data.mul_(1.1))
    with pytest.raises(ValueError, match="merged model's logits differ"):
        merge_checkpoint(base, lora, tmp_path / "merged")
    assert {path.name for path in tmp_path.iterdir()} == {"lora"}


def test_what_does_not_belong_together_is_refused(build_lora, build_checkpoint, tmp_path):
    _, lora = build_lora()
    with pytest.raises(ValueError, match="kind is 'mlp' there and 'linear' here"):
        merge_checkpoint(build_checkpoint(adapter="linear"), lora, tmp_path / "merged")
    with pytest.raises(ValueError, match="no base checkpoint in"):
        merge_checkpoint(tmp_path, lora, tmp_path / "merged")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ValueError, match="exists already"):
        merge_checkpoint(build_checkpoint(adapter="mlp"), lora, tmp_path / "full")
