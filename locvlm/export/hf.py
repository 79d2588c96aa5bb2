"""A checkpoint as the *published* llava-hf folder: what vLLM, lmms-eval and transformers 4.x and 5.x read.

What transformers 5 itself saves is not that: its key names and rope settings are new, and there is no
`preprocessor_config.json`. Transformers 4.57 loads such a folder with a warning and a random vision tower.

    here (transformers 5)                   published
    model.language_model.layers.0 ...       language_model.model.layers.0 ...
    lm_head                                 language_model.lm_head
    model.vision_tower.encoder ...          vision_tower.vision_model.encoder ...
    model.multi_modal_projector ...         multi_modal_projector ...

No stock class pools the frames of a video. A model that was trained on videos is therefore exported for the
package's own class (model/registered.py: the same names, another `model_type`), and on demand as stock LLaVA,
which sees images alone.
"""

import json
import logging
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import save_torch_state_dict
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerBase

from locvlm.constants import IGNORE_INDEX, IMAGE_TOKEN, MAX_SHARD_SIZE
from locvlm.data.prompt import chat_template
from locvlm.data.tokenize import load_tokenizer
from locvlm.export.check import compare_videos, compare_with_export
from locvlm.export.model_card import write_model_card
from locvlm.export.video_processor import LocVLMVideoProcessor
from locvlm.model.adapter import load_adapter
from locvlm.model.compose import appearing_folder
from locvlm.model.locvlm import LocVLM
from locvlm.model.processor import build_image_processor, processor_settings
from locvlm.model.registered import LocVLMVideo
from locvlm.model.video import NO_VIDEO
from locvlm.spec import VisionSpec

logger = logging.getLogger(__name__)

ExportClass = Literal["stock", "video"]

PUBLISHED_PREFIXES = {  # ours -> published; the first that fits
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
_CLASSES: dict[ExportClass, Any] = {"stock": LlavaForConditionalGeneration, "video": LocVLMVideo}


def export_hf(
    checkpoint: str | Path,
    out: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    export_class: ExportClass | None = None,
) -> ExportClass:
    """Write `checkpoint` in the published layout to `out`, which appears only once the check has passed.

    The check loads the new folder with the class that it names and compares token ids, pixels and logits with
    the checkpoint's own, on a question about an image, and about a video if that is what it is for.

    Args:
        checkpoint: a folder that `LocVLM.from_pretrained` reads, with its tokenizer.
        adapter: an adapter-only folder of stage 1 to put into it first.
        dtype: of the exported weights; the checkpoint's own if left out.
        name: the model's name on the card; the name of `out` if left out.
        export_class: "stock" for stock LLaVA, which sees images alone, "video" for `LocVLMVideo`; if left
            out, what the checkpoint was trained for.

    Returns:
        The class that was exported for.

    Raises:
        ValueError: if `out` exists, the checkpoint has no coordinate contract, or none for videos where that
            is asked for, or the check fails.
    """
    if not (Path(checkpoint) / "config.json").is_file():
        raise ValueError(f"{checkpoint} is no checkpoint: expected a folder with config.json")
    model = LocVLM.from_pretrained(checkpoint, dtype=dtype or "auto").eval()
    if adapter is not None:
        load_adapter(model, adapter)
    contract, conversation = model.contract, require_conversation(model.config)
    export_class = export_class or ("stock" if model.video is None else "video")
    if export_class == "video" and model.video is None:
        raise ValueError(f"{checkpoint} has no videos to export for: {NO_VIDEO}")
    tokenizer = load_tokenizer(checkpoint)
    template = chat_template(conversation, takes_videos=export_class == "video")
    with appearing_folder(out) as unfinished:
        save_torch_state_dict(published_weights(model), unfinished, max_shard_size=MAX_SHARD_SIZE)
        _write_json(unfinished / "config.json", published_config(model.config, model.dtype, export_class))
        _write_json(unfinished / "generation_config.json", _generation_config(model, tokenizer))
        _write_processor(unfinished, tokenizer, model.spec, contract.frame, export_class)
        (unfinished / "chat_template.jinja").write_text(template, encoding="utf-8")
        write_model_card(
            unfinished, model, conversation, name=name or Path(out).name, is_video=export_class == "video"
        )
        compare_with_export(model, tokenizer, conversation, unfinished)
        if export_class == "video":
            compare_videos(model, tokenizer, conversation, unfinished)
    logger.info("exported %s to %s: ids, pixels and logits are those of the checkpoint", checkpoint, out)
    return export_class


def published_weights(model: LocVLM) -> dict[str, torch.Tensor]:
    """The model's weights under their published names."""
    weights = {}
    for name, weight in model.state_dict().items():
        ours = next(prefix for prefix in PUBLISHED_PREFIXES if name.startswith(prefix))
        weights[PUBLISHED_PREFIXES[ours] + name.removeprefix(ours)] = weight.contiguous()
    return weights


def published_config(
    config: LlavaConfig, dtype: torch.dtype, export_class: ExportClass = "stock"
) -> dict[str, Any]:
    """config.json as transformers 4.x writes it; `locvlm` (contract, conversation, ...) stays in it."""
    published = config.to_diff_dict()
    for section in (published, published["text_config"], published["vision_config"]):
        for key in ("transformers_version", "dtype", "_attn_implementation", "_name_or_path"):
            section.pop(key, None)
    text = published["text_config"]
    rope = dict(text.pop("rope_parameters", None) or {})
    text["rope_theta"] = rope.pop("rope_theta", 10000.0)
    text["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    dtype_name = str(dtype).removeprefix("torch.")
    text["torch_dtype"] = dtype_name
    return {
        **published,
        "architectures": [_CLASSES[export_class].__name__],
        "model_type": _CLASSES[export_class].config_class.model_type,
        "ignore_index": IGNORE_INDEX,
        "torch_dtype": dtype_name,
        "tie_word_embeddings": False,
    }


def require_conversation(config: LlavaConfig) -> str:
    """The conversation format that the checkpoint was trained with.

    Raises:
        ValueError: if its config does not say.
    """
    conversation = (getattr(config, "locvlm", None) or {}).get("conversation")
    if conversation is None:
        raise ValueError(
            "the checkpoint's config.json has no locvlm.conversation, so its prompts are unknown; set it to "
            "the format it was trained with, e.g. vicuna_v1"
        )
    return str(conversation)


def _generation_config(model: LocVLM, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": model.text_spec.pad_token_id,
    }


def _write_processor(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    spec: VisionSpec,
    frame: str,
    export_class: ExportClass,
) -> None:
    """Tokenizer and both processor files, in the form that 4.x and 5.x both read."""
    tokenizer.save_pretrained(folder)
    settings_path = folder / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "backend"):  # about this machine and this library
        settings.pop(key, None)
    settings.update(
        tokenizer_class="LlamaTokenizer",
        processor_class="LlavaProcessor",
        padding_side="left",
        legacy=False,  # no space that is not there after a special token; transformers 5 does not save this
        extra_special_tokens={"image_token": IMAGE_TOKEN},  # 5 saves a list, on which 4 stops
        image_token=IMAGE_TOKEN,
    )
    _write_json(settings_path, settings)
    image_settings = build_image_processor(spec, frame).to_dict()
    image_settings.update(processor_class="LlavaProcessor", resample=int(image_settings["resample"]))
    _write_json(folder / "preprocessor_config.json", image_settings)
    processor: dict[str, Any] = {**processor_settings(spec), "processor_class": "LlavaProcessor"}
    if export_class == "video":
        processor["processor_class"] = LocVLMVideoProcessor.__name__
        processor |= {
            "num_frames": spec.num_frames,
            "num_video_tokens": spec.num_video_tokens,
            "frame": frame,
        }
    _write_json(folder / "processor_config.json", processor)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
