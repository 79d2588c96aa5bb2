"""Steps that stages share, one at a time; tests/programs runs whole stages."""

import logging
import shutil
from types import SimpleNamespace

import pytest
import torch

from locvlm.data.tokenize import load_tokenizer
from locvlm.io import Ledger, read_json
from locvlm.runs import RunFolder
from locvlm.training.stages.run import finish


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model.attn_implementation", "flex_attention"), r"no backward pass on a CPU; set it to tree"),
        (("--model.liger_kernels", "true"), r"model\.liger_kernels needs a CUDA GPU \(there is none\)"),
        (
            ("--model.quantize", "4bit", "--lora.rank", "4"),
            r"model\.quantize needs a CUDA GPU .*bits",
        ),
        (("--model.quantize", "4bit"), r"quantized weights cannot train: set lora\.rank"),
        (("--training.use_liger_kernel", "true"), r"use model\.liger_kernels"),
        (("--lora.rank", "0"), r"LoRA needs rank >= 1"),
        (("--lora.targets", "[query]"), r"query are no layers of this language model; it has down_proj"),
    ],
)
def test_what_this_machine_or_model_cannot_do_is_refused_with_the_way_out(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(*options)


def test_a_tokenizer_of_another_language_model_is_refused(build, tiny_world, tmp_path):
    other = shutil.copytree(tiny_world.init, tmp_path / "other")
    tokenizer = load_tokenizer(other)
    tokenizer.add_tokens([f"<more{k}>" for k in range(200)])
    tokenizer.save_pretrained(other)
    with pytest.raises(ValueError, match=r"has 6\d\d tokens, its language model only \d+ embedding"):
        build("--model.checkpoint", str(other))


@pytest.mark.parametrize(("num_cut", "num_warnings"), [(0, 0), (3, 1)])
def test_queries_that_the_frame_cuts_are_reported_at_the_end(tmp_path, caplog, num_cut, num_warnings):
    ledger = Ledger("training data")
    ledger.keep(5)
    saved = []
    loader = SimpleNamespace(ledger=ledger, num_left_out=num_cut)
    with caplog.at_level(logging.WARNING):
        finish(SimpleNamespace(save_complete=saved.append), RunFolder(path=tmp_path), loader)
    dropped = read_json(tmp_path / "dropped.json")
    assert dropped["queries_cut_by_frame"] == num_cut
    assert [rank["kept"] for rank in dropped["by_rank"]] == [5]
    warnings = [r.getMessage() for r in caplog.records if "the frame cuts" in r.getMessage()]
    assert len(warnings) == num_warnings
    assert all(text.startswith("3 queries were not asked") for text in warnings)
    assert saved == ["final"]
