"""The frozen CLIP tower: run as far as its features are read, with Hugging Face or open_clip weights."""

# N images, P patches per image, D tower width

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, CLIPVisionConfig, CLIPVisionModel

from locvlm.model.weight_files import download_hint, load_whole

# open_clip block -> transformers encoder layer; the attention's joint q, k, v projection is split apart by
# hand
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
OPEN_CLIP_PREFIX = "open_clip:"
# the rest of a whole CLIP, by the beginnings of its weights' names
_OTHER_THAN_TOWER = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")


def patch_features(tower: Any, pixel_values: torch.Tensor, *, layer: int = -2) -> torch.Tensor:
    """Hidden states of all patches after `layer`, without the CLS token; later layers are not run.

    `layer` counts as in `hidden_states[layer]` of the stock tower: -2 is the output of the last layer but
    one, the one LLaVA reads. What comes after (one layer of 24, the final norm) stays in the model, so that
    its checkpoint is whole, but costs nothing.

    Args:
        tower: a `CLIPVisionModel`.
        pixel_values: (N, 3, canvas, canvas), normalised.

    Returns:
        (N, P, D)
    """
    layers = tower.encoder.layers
    num_to_run = layer if layer >= 0 else len(layers) + 1 + layer
    if not 0 <= num_to_run <= len(layers):
        raise ValueError(f"vision_feature_layer {layer} is not a layer of a tower with {len(layers)} layers")
    is_trained = any(parameter.requires_grad for parameter in tower.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and is_trained):
        hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))  # (N, 1 + P, D)
        for block in layers[:num_to_run]:
            hidden = block(hidden, None)
    return hidden[:, 1:]  # (N, P, D)


def load_tower(source: str) -> tuple[CLIPVisionModel, dict[str, Any]]:
    """The vision tower in fp32 from `source`, and the pixel statistics it was trained with.

    `source` is one of
        DIR                       a Hugging Face CLIP folder (whole or vision only), or an open_clip folder
                                  (`open_clip_config.json` + `open_clip_model.safetensors`)
        open_clip:DIR             an open_clip folder
        open_clip:NAME            random weights, for tests
        open_clip:NAME:TAG        a pretrained tag of open_clip, e.g. open_clip:ViT-L-14:openai (downloads)
        open_clip:NAME:FILE       weights of that architecture from a .safetensors file

    Returns:
        the tower, and {"image_mean": [r, g, b], "image_std": [r, g, b]} in [0, 1] colours.

    Raises:
        ValueError: if there is nothing to load there, or the tower is not a plain CLIP ViT.
    """
    if source.startswith(OPEN_CLIP_PREFIX):
        return _load_open_clip(source.removeprefix(OPEN_CLIP_PREFIX))
    folder = Path(source)
    if (folder / "open_clip_config.json").is_file():
        return _load_open_clip(source)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"no CLIP at {source!r}: expected a folder with config.json (Hugging Face) or "
            f"open_clip_config.json, or open_clip:NAME[:FILE_OR_TAG]{download_hint(source)}"
        )
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in ("clip", "clip_vision_model"):
        raise ValueError(f"{source} holds a {config.model_type!r} model; the vision tower must be a CLIP")
    tower = load_whole(CLIPVisionModel, folder, ignored=_OTHER_THAN_TOWER, dtype=torch.float32)
    return tower.eval(), pixel_statistics(folder)


def convert_open_clip_tower(visual: nn.Module) -> CLIPVisionModel:
    """A `CLIPVisionModel` with the weights, sizes and activation of open_clip's vision tower.

    The activation is read from the module itself, not from the model's name: OpenAI's weights need QuickGELU,
    most others plain GELU, and a mix-up costs 1e-2 in the features without any error.

    Raises:
        ValueError: if the tower has parts that CLIP's has not (attention pooling, layer scale, no pre-norm,
        ...).
    """
    weights = visual.state_dict()
    converted = _rename_tower_weights(weights)
    tower = CLIPVisionModel(_tower_config(visual, weights))
    expected = tower.state_dict()
    unexpected = sorted(set(converted) - set(expected))
    missing = sorted(set(expected) - set(converted))
    if unexpected or missing:
        raise ValueError(
            f"open_clip's {type(visual).__name__} is not a plain CLIP ViT: unknown weights {unexpected[:4]}, "
            f"missing {missing[:4]}; use a ViT-* model without attention pooling"
        )
    tower.load_state_dict(converted)
    return tower.float().eval()


def tower_identity(tower: nn.Module) -> str:
    """A short hash of the tower's weights, equal in fp32 and bf16 copies of one tower.

    It tells whether an adapter was trained on these very features.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            weight.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
        )
    return digest.hexdigest()[:16]


def _tower_config(visual: Any, weights: dict[str, torch.Tensor]) -> CLIPVisionConfig:
    """Sizes and activation of open_clip's tower, in transformers' words."""
    if "conv1.weight" not in weights or not hasattr(visual, "transformer"):
        raise ValueError(f"open_clip's {type(visual).__name__} is not a ViT; use a ViT-* model")
    block = visual.transformer.resblocks[0]
    sides = {int(side) for side in (*visual.image_size, visual.image_size[0])}
    if len(sides) != 1:
        raise ValueError(f"the tower must take square images, got {tuple(visual.image_size)}")
    activations = {"QuickGELU": "quick_gelu", "GELU": "gelu"}
    activation = type(block.mlp.gelu).__name__
    if activation not in activations:
        raise ValueError(
            f"unknown activation {activation} in open_clip's tower; known: {', '.join(activations)}"
        )
    return CLIPVisionConfig(
        hidden_size=weights["conv1.weight"].shape[0],
        intermediate_size=block.mlp.c_fc.out_features,
        projection_dim=visual.output_dim,
        num_hidden_layers=len(visual.transformer.resblocks),
        num_attention_heads=block.attn.num_heads,
        image_size=sides.pop(),
        patch_size=int(visual.patch_size[0]),
        hidden_act=activations[activation],
        layer_norm_eps=visual.ln_post.eps,
    )


def _rename_tower_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's names -> `CLIPVisionModel`'s; the contrastive projection is left out."""
    outside_blocks = {
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_pre.weight": "pre_layrnorm.weight",
        "ln_pre.bias": "pre_layrnorm.bias",
        "ln_post.weight": "post_layernorm.weight",
        "ln_post.bias": "post_layernorm.bias",
    }
    renamed: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if name == "proj":
            continue
        if not name.startswith("transformer.resblocks."):
            renamed[outside_blocks.get(name, name)] = weight
            continue
        index, inner = name.removeprefix("transformer.resblocks.").split(".", 1)
        layer = f"encoder.layers.{index}"
        if inner.startswith("attn.in_proj_"):
            kind = inner.removeprefix("attn.in_proj_")  # weight or bias
            for part, piece in zip("qkv", weight.chunk(3), strict=True):
                renamed[f"{layer}.self_attn.{part}_proj.{kind}"] = piece.clone()
        else:
            module, kind = inner.rsplit(".", 1)
            renamed[f"{layer}.{_BLOCK_NAMES.get(module, module)}.{kind}"] = weight
    return renamed


def _load_open_clip(identifier: str) -> tuple[CLIPVisionModel, dict[str, Any]]:
    """The converted tower of an open_clip folder, of `NAME`, or of `NAME:FILE_OR_TAG`."""
    import open_clip  # imports torchvision: seconds, and only this needs it

    if Path(identifier).is_dir():
        if not list(Path(identifier).glob("*.safetensors")):
            raise ValueError(f"no .safetensors weights in the open_clip folder {identifier}")
        name, pretrained = f"local-dir:{identifier}", None
    else:
        name, _, pretrained = identifier.partition(":")
        if name not in open_clip.list_models():
            raise ValueError(
                f"open_clip has no model {name!r}, and there is no folder of that name; see list_models()"
            )
        if pretrained and _is_file_name(pretrained):
            _require_safetensors(Path(pretrained))
        elif pretrained and pretrained not in open_clip.list_pretrained_tags_by_model(name):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
            raise ValueError(
                f"open_clip's {name} has no weights tagged {pretrained!r}, and no such file; tags: {tags}"
            )
    quick = {"force_quick_gelu": True} if _tag_needs_quick_gelu(name, pretrained) else {}
    model = open_clip.create_model(
        name, pretrained=pretrained or None, precision="fp32", device="cpu", **quick
    )
    return convert_open_clip_tower(model.visual), {
        "image_mean": [float(value) for value in model.visual.image_mean],
        "image_std": [float(value) for value in model.visual.image_std],
    }


def _is_file_name(text: str) -> bool:
    return "/" in text or Path(text).suffix != ""


def _require_safetensors(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise ValueError(f"weights must be a .safetensors file (pickled ones can run code), got {path}")
    if not path.is_file():
        raise ValueError(f"no weights at {path}")


def _tag_needs_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether open_clip says that the tag's weights were trained with QuickGELU (all of OpenAI's were)."""
    import open_clip

    if not pretrained or name.startswith("local-dir:"):
        return False
    return bool((open_clip.get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu", False))


def pixel_statistics(folder: Path) -> dict[str, Any]:
    """image_mean and image_std of a Hugging Face folder's image processor; empty where there is none."""
    for name in ("preprocessor_config.json", "processor_config.json"):  # as transformers 4 and 5 write it
        if (folder / name).is_file():
            saved = json.loads((folder / name).read_text(encoding="utf-8"))
            saved = saved.get("image_processor", saved)
            return {key: saved[key] for key in ("image_mean", "image_std") if key in saved}
    return {}
