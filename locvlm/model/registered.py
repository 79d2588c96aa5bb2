"""The class that an export for videos names in its config.json. Importing this makes transformers know it:

    import locvlm.model.registered
    model = AutoModelForImageTextToText.from_pretrained("my-locvlm-vid-7b")

No stock class pools frames, so such a folder needs this package; no code travels with the weights. Their
names are the published ones of LLaVA (export/hf.py), and so are all keys of config.json but `model_type`,
`architectures` and `locvlm`, whose `video` says how frames are pooled.
"""

from transformers import AutoConfig, AutoModelForImageTextToText, LlavaConfig
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

from locvlm.model.locvlm import LocVLM


class LocVLMVideoConfig(LlavaConfig):
    """LLaVA's configuration under a name that no stock class answers to."""

    model_type = "locvlm_video"


class LocVLMVideo(LocVLM):
    """`LocVLM`, as `AutoModelForImageTextToText` finds it for a model that was trained on videos."""

    config_class = LocVLMVideoConfig


# as for LocVLM: without it, published names would load as missing, hence random, weights
register_checkpoint_conversion_mapping(
    LocVLMVideo.__name__, get_checkpoint_conversion_mapping("llava") or [], overwrite=True
)
AutoConfig.register(LocVLMVideoConfig.model_type, LocVLMVideoConfig, exist_ok=True)
AutoModelForImageTextToText.register(LocVLMVideoConfig, LocVLMVideo, exist_ok=True)
