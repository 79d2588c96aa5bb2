"""Weights are read from every kind of public file, pickles as tensors alone, and misfits are listed."""

import json
import os

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

from locvlm.model.weight_files import download_hint, read_weights, require_fitting, shapes_of

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


def write_shards(folder, shards: dict[str, dict[str, torch.Tensor]], index: str) -> None:
    for name, weights in shards.items():
        torch.save(weights, folder / name)
    names = {key: name for name, weights in shards.items() for key in weights}
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": names}))


def test_single_files_of_every_format_are_read(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    torch.save(WEIGHTS, tmp_path / "a.bin")
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)  # cannot be mapped
    for name in ("a.safetensors", "a.bin", "old.pth"):
        assert same(read_weights(tmp_path / name)), name


def test_folders_whole_or_in_shards_are_read_safetensors_first(tmp_path):
    shards = [{name: WEIGHTS[name]} for name in WEIGHTS]
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    write_shards(tmp_path, dict(zip(names, shards, strict=True)), "pytorch_model.bin.index.json")
    assert same(read_weights(tmp_path))
    torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert same(read_weights(tmp_path))  # the index comes first
    (tmp_path / "safe").mkdir()
    save_torch_state_dict(WEIGHTS, tmp_path / "safe", max_shard_size=24)
    assert len(list((tmp_path / "safe").glob("model-*.safetensors"))) == 2
    assert same(read_weights(tmp_path / "safe"))


def test_a_missing_shard_is_named(tmp_path):
    shards = {f"pytorch_model-{number}.bin": {name: WEIGHTS[name]} for number, name in enumerate(WEIGHTS)}
    write_shards(tmp_path, shards, "pytorch_model.bin.index.json")
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(ValueError, match=r"lists 2 files, of which 1 are missing: pytorch_model-1\.bin"):
        read_weights(tmp_path)


def test_a_shard_outside_of_its_folder_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    torch.save(WEIGHTS, tmp_path / "pytorch_model-1.bin")
    index = {"weight_map": dict.fromkeys(WEIGHTS, "../pytorch_model-1.bin")}
    (tmp_path / "model" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="must stay inside its root"):
        read_weights(tmp_path / "model")


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, is_archive):
    weights = {**WEIGHTS, "evil": Touches(str(tmp_path / "was_here"))}
    torch.save(weights, tmp_path / "a.bin", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(ValueError, match=r"a\.bin is a pickle that holds more than tensors"):
        read_weights(tmp_path / "a.bin")
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("content", [{"step": 3}, [torch.ones(1)]])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(ValueError, match="expected a state dict alone"):
        read_weights(tmp_path / "a.bin")


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_a_damaged_file_is_named(tmp_path, name):
    if name == "a.bin":
        torch.save(WEIGHTS, tmp_path / name)
    else:
        save_file(WEIGHTS, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=name):
        read_weights(tmp_path / name)


def test_what_is_not_there_is_refused_and_hub_names_get_a_hint(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of model\.safetensors\.index\.json"):
        read_weights(tmp_path)
    with pytest.raises(ValueError, match=r"hf download llava-hf/tiny --local-dir checkpoints/tiny"):
        read_weights("llava-hf/tiny")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"expected weights as \.safetensors"):
        read_weights(tmp_path / "a.txt")
    assert download_hint(tmp_path) == download_hint("/data/models/x") == download_hint("vicuna") == ""


def test_every_misfit_is_listed_and_long_lists_are_cut():
    expected = {f"layer.{i}": (2, 3) for i in range(12)} | {"bias": (2,), "norm": (4,)}
    found = {"bias": (3,), "norm": (4,), "extra": (1,), "layer.3": (2, 3)}
    with pytest.raises(ValueError, match=r"model\.bin do not fit") as caught:
        require_fitting(found, expected, where="model.bin")
    message = str(caught.value)
    assert "11 missing: layer.0, layer.1, layer.10" in message
    assert "... and 3 more" in message
    assert "1 unknown: extra" in message
    assert "1 of another shape: bias has shape (3,), expected (2,)" in message
    assert "norm" not in message
    require_fitting(expected, expected, where="model.bin")


def test_shapes_are_plain_tuples():
    assert shapes_of(WEIGHTS) == {"a.weight": (2, 3), "a.bias": (2,)}
