"""The model of a stage: the starting checkpoint, its coordinate contract, what of it trains and is saved."""

import logging
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from locvlm.config_text import to_dict
from locvlm.coords.contract import CoordinateContract, require_same
from locvlm.data.prompt import chat_template
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import apply_lora
from locvlm.training import checkpoint, kernels
from locvlm.training.arguments import CoordsConfig, ModelConfig, Stage2Config, Stage3Config

logger = logging.getLogger(__name__)

_TRAINED_KEY = "trained_on_locations"  # in config.locvlm: the contract can no longer be chosen


def open_model(
    config: ModelConfig, coords: CoordsConfig, args: TrainingArguments, *, conversation: str | None = None
) -> LocVLM:
    """The starting checkpoint, its coordinate contract settled; under ZeRO-3 spread over ranks as it is read.

    Raises:
        ValueError: if the folder holds no model, or one trained with another codec, frame or location; or
            if this machine cannot train with the attention that is asked for.
    """
    if not (Path(config.checkpoint) / "config.json").is_file():
        raise ValueError(
            f"model.checkpoint: no model in {config.checkpoint!r}; make one with scripts/init_checkpoint.py"
        )
    kernels.prepare(config)
    # DeepSpeed keeps its own fp32 copy of what trains; without it, autocast needs fp32 weights
    dtype = torch.bfloat16 if args.deepspeed and args.bf16 else torch.float32
    model = LocVLM.from_pretrained(
        config.checkpoint,
        dtype=dtype,
        attn_implementation=config.attn_implementation,
        use_safetensors=True,
        quantization_config=kernels.quantization(config),
    )
    settle_contract(model, coords, checkpoint_name=config.checkpoint)
    if conversation is not None:
        model.config.locvlm = {**model.config.locvlm, "conversation": conversation, _TRAINED_KEY: True}
    logger.info("%s; %s", config.checkpoint, model.contract)
    return model


def choose_parts(config: Stage2Config | Stage3Config, model: LocVLM, *, seed: int) -> tuple[str, ...]:
    """What trains, for `freeze`: adapter and language model; LoRA layers, which come in here, in its place;
    or in stage 3 the adapter alone.
    """
    if isinstance(config, Stage3Config) and config.trains == "adapter":
        return ("adapter",)
    if config.lora is None:
        return ("adapter", "llm")
    apply_lora(model, config.lora, seed=seed)
    return ("adapter", "lora")


def settle_contract(model: LocVLM, coords: CoordsConfig, *, checkpoint_name: str) -> None:
    """Write the run's coordinate contract into the model's config: chosen freely before training, then fixed.

    Raises:
        ValueError: if the checkpoint has learned another one, or neither it nor `coords` says one.
    """
    saved = dict(getattr(model.config, "locvlm", None) or {})
    chosen = {name: value for name, value in to_dict(coords).items() if value is not None}
    stored = saved.get("contract") or {}
    if not stored:
        missing = [name for name in ("codec", "frame", "location") if name not in chosen]
        if missing:
            raise ValueError(
                f"{checkpoint_name} does not say how it writes locations (locvlm.contract in config.json); "
                f"set {', '.join(f'coords.{name}' for name in missing)}"
            )
    sizes = {"canvas": model.spec.canvas, "patch": model.spec.patch}
    contract = CoordinateContract.from_dict({**stored, **chosen, **sizes})
    if stored and saved.get(_TRAINED_KEY):
        try:
            require_same(contract, CoordinateContract.from_dict(stored))
        except ValueError as error:
            raise ValueError(f"{checkpoint_name} was trained with other coordinates: {error}") from error
    model.config.locvlm = {**saved, "contract": contract.to_dict()}


def choose_weights(
    config: Stage2Config | Stage3Config, tokenizer: PreTrainedTokenizerBase
) -> checkpoint.Weights:
    """How checkpoints are written and read: what trains by `choose_parts`."""
    if isinstance(config, Stage3Config) and config.trains == "adapter":
        return checkpoint.AdapterWeights("stage3")
    return choose_final_weights(config, tokenizer)


def choose_final_weights(
    config: Stage2Config | Stage3Config, tokenizer: PreTrainedTokenizerBase
) -> checkpoint.Weights:
    """How the end of a stage is written: whole, also where the adapter alone trains, or LoRA's matrices."""
    stage: checkpoint.Stage = "stage3" if isinstance(config, Stage3Config) else "stage2"
    if config.lora is not None:
        return checkpoint.LoraWeights(config.lora, base=config.model.checkpoint, stage=stage)
    return checkpoint.FolderWeights(tokenizer, chat_template(config.data.conversation), stage=stage)
