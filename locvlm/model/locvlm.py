"""LocVLM: stock LLaVA with a tower that stops early, rows packed as trees, a loss on supervised tokens alone.

The weights, their names and the configuration are stock; a checkpoint of either class loads into the other.
"""

# R rows, L tokens per row, N images and frames, P patches per image, D model width, T supervised tokens,
# V vocabulary

from typing import Any

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaCausalLMOutputWithPast

from locvlm.coords.contract import CoordinateContract
from locvlm.dist import world_size
from locvlm.model.attention import FLEX_ATTENTION, require_masked_attention, tree_block_mask, tree_mask
from locvlm.model.last_layer import TargetRowsLayer, is_narrow, narrow_last_layer
from locvlm.model.tree_attention import TREE_ATTENTION, lay_out_trees
from locvlm.model.video import (
    VideoPooling,
    Visuals,
    require_plain_tower,
    run_tower_as_often_as_others,
    visual_tokens,
)
from locvlm.model.vision import patch_features
from locvlm.spec import TextSpec, VisionSpec

_WITH_THE_PROMPT = ("frames_per_visual", "pooled_features")  # and never again while it is answered


class LocVLM(LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration` with four differences, none of them in the weights.

    1. The vision tower is run up to the layer that is read and no further.
    2. `forward` also takes packed rows (`sample_ids`, `branch_ids`) and their targets, and computes no more
       than these need (see last_layer.py); with the stock keywords alone it gives the stock class's output.
    3. `forward` and `generate` also take videos (`frames_per_visual`, `pooled_features`; see video.py).
    4. `config.locvlm` says what the checkpoint was made for: coordinate contract, conversation, adapter,
       tower, and how it sees videos, if it does.
    """

    accepts_loss_kwargs = (
        True  # Trainer: the loss is divided already, do not divide it by the accumulation steps
    )

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.loss_type = (
            "ForConditionalGeneration"  # guessed from the class's name otherwise, and ours is not known
        )
        narrow_last_layer(self.model.language_model)
        # by these names `device_map` keeps layers whole
        self._no_split_modules = {*(self._no_split_modules or ()), TargetRowsLayer.__name__}

    @property
    def spec(self) -> VisionSpec:
        """Canvas, patch, pixel statistics and frames that the data pipeline must follow."""
        vision: Any = self.config.vision_config
        ours = getattr(self.config, "locvlm", None) or {}
        told: dict[str, Any] = {
            name: tuple(ours[name]) for name in ("image_mean", "image_std") if ours.get(name)
        }
        if self.video is not None:
            told.update(num_frames=self.video.num_frames, pad_frames=self.video.pad_frames)
        return VisionSpec(canvas=vision.image_size, patch=vision.patch_size, **told)

    @property
    def video(self) -> VideoPooling | None:
        """How this checkpoint sees videos, by its config; None if it was made for images alone."""
        saved = (getattr(self.config, "locvlm", None) or {}).get("video")
        return None if saved is None else VideoPooling.from_dict(saved)

    @property
    def text_spec(self) -> TextSpec:
        """Token ids and length that the data pipeline must follow."""
        text: Any = self.config.text_config
        return TextSpec(
            image_token_id=self.config.image_token_id,
            pad_token_id=text.pad_token_id,
            max_position=text.max_position_embeddings,
        )

    @property
    def contract(self) -> CoordinateContract:
        """How this checkpoint writes locations, and in which frame.

        Raises:
            ValueError: if the checkpoint does not say, as public LLaVA checkpoints do not.
        """
        saved = (getattr(self.config, "locvlm", None) or {}).get("contract")
        if saved is None:
            raise ValueError(
                "this checkpoint's config.json has no locvlm.contract, so its coordinates have no known "
                "codec and frame; start from scripts/init_checkpoint.py, or set config.locvlm = "
                "{'contract': {...}}"
            )
        return CoordinateContract.from_dict(saved)

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Adapted patch features, as the stock method gives them, in `pooler_output`: N tensors (P, D).

        What the short cut cannot give (several layers, CLS kept, a tower that is no CLIP, inner states) is
        left to the stock method.
        """
        vision: Any = self.config.vision_config
        layer: Any = vision_feature_layer
        if layer is None:
            layer = self.config.vision_feature_layer
        strategy = vision_feature_select_strategy or self.config.vision_feature_select_strategy
        is_plain = isinstance(layer, int) and strategy == "default" and not any(kwargs.values())
        if not is_plain or vision.model_type != "clip_vision_model":
            return super().get_image_features(
                pixel_values,
                vision_feature_layer=vision_feature_layer,
                vision_feature_select_strategy=vision_feature_select_strategy,
                **kwargs,
            )
        patches = patch_features(self.model.vision_tower, pixel_values, layer=layer)
        adapted = self.model.multi_modal_projector(patches)  # (N, P, D)
        features: Any = list(adapted)
        return BaseModelOutputWithPooling(last_hidden_state=patches, pooler_output=features)

    def forward(  # noqa: PLR0913  (the stock keywords, in the stock order, then videos, then the packed ones)
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        frames_per_visual: torch.Tensor | None = None,
        pooled_features: torch.Tensor | None = None,
        *,
        sample_ids: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
        target_index: torch.Tensor | None = None,
        target_ids: torch.Tensor | None = None,
        target_weights: torch.Tensor | None = None,
        num_targets: float | torch.Tensor | None = None,
        return_logits: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The stock output for stock keywords; loss, and logits of the targets if asked, for packed rows.

        Packed rows are given by `input_ids`, `position_ids`, `sample_ids` and `branch_ids`, all (R, L), and
        `pixel_values` (N, 3, H, W), images and frames, in the order in which they appear. Targets are triples
        rather than shifted labels, because the branches of a prefix that ends in an image share the state of
        their first token:

        Args:
            frames_per_visual: (V,) of each image or video, in order of appearance: 0 for an image, the next
                one of `pixel_values`; n for a video of the next n; -1 for a video whose pooled features are
                the next of `pooled_features`. Left out where all are images.
            pooled_features: (K, T, D of the tower), each from `video.pool_clip`.
            target_index: (T,) which of the R * L hidden states predicts.
            target_ids: (T,) what it should predict.
            target_weights: (T,) its weight in the loss, mostly 1.
            num_targets: what the weighted sum is divided by: the weights of the *whole step*, over all ranks
                and accumulation passes; the sum of `target_weights` when left out.
            return_logits: also return (T, V) logits, of the targets only.

        Raises:
            ValueError: if the packed keywords are incomplete or mixed with labels or an attention mask, or
                the videos are not those of this checkpoint.
        """
        visuals = Visuals(pixel_values, frames_per_visual, pooled_features)
        if sample_ids is None and target_index is None:
            return self._stock_forward(
                visuals,
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                vision_feature_layer=vision_feature_layer,
                vision_feature_select_strategy=vision_feature_select_strategy,
                labels=labels,
                logits_to_keep=logits_to_keep,
                **kwargs,
            )
        if (
            input_ids is None
            or position_ids is None
            or sample_ids is None
            or branch_ids is None
            or target_index is None
            or target_ids is None
            or target_weights is None
            or attention_mask is not None
            or labels is not None
        ):
            raise ValueError(
                "packed rows need input_ids, position_ids, sample_ids, branch_ids, target_index, target_ids "
                "and target_weights, and neither attention_mask nor labels"
            )
        num_here = target_index.numel()
        if num_here == 0:  # the loss is zero but reaches every parameter: other ranks wait for its gradient
            target_index, target_ids = target_index.new_zeros(1), target_ids.new_zeros(1)
            target_weights = target_weights.new_zeros(1)
        hidden = self._target_states(
            input_ids, visuals, position_ids, sample_ids, branch_ids, target_index=target_index
        )
        logits = self.lm_head(hidden)  # (T, V)
        loss = _weighted_loss(logits, target_ids, target_weights, num_targets)
        return LlavaCausalLMOutputWithPast(loss=loss, logits=logits[:num_here] if return_logits else None)

    def _stock_forward(self, visuals: Visuals, **stock: Any) -> Any:
        """The superclass's forward, with images embedded by our shorter tower, and videos."""
        if not visuals.are_there or stock["inputs_embeds"] is not None or stock["input_ids"] is None:
            return super().forward(pixel_values=visuals.pixel_values, **stock)
        tower_options = {
            name: stock.pop(name)
            for name in ("vision_feature_layer", "vision_feature_select_strategy", "image_sizes")
            if name in stock
        }
        input_ids = stock.pop("input_ids")
        embeds = self.get_input_embeddings()(input_ids)
        embeds, features = self._place(visuals, input_ids, embeds, **tower_options)
        output = super().forward(**{**stock, "inputs_embeds": embeds})
        if isinstance(output, LlavaCausalLMOutputWithPast):
            output.image_hidden_states = features
        return output

    def _place(
        self, visuals: Visuals, input_ids: torch.Tensor, embeds: torch.Tensor, **tower_options: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Token embeddings (R, L, D) with the adapted tokens of all visuals in their places, and those."""
        if not visuals.are_there:
            return embeds, None
        if visuals.frames_per_visual is None and visuals.pooled_features is None:
            assert visuals.pixel_values is not None
            found = self.get_image_features(visuals.pixel_values, **tower_options).pooler_output
            features = torch.cat(found)  # (N * P, D)
        else:
            require_plain_tower(self.config, tower_options)
            features = self.model.multi_modal_projector(torch.cat(visual_tokens(self, visuals)))
        features = features.to(embeds.device, embeds.dtype)
        is_image = self.model.get_placeholder_mask(input_ids, inputs_embeds=embeds, image_features=features)
        return embeds.masked_scatter(is_image, features), features

    def prepare_inputs_for_generation(  # type: ignore[misc]  # typed for a protocol that no model fulfils
        self, *args: Any, **kwargs: Any
    ) -> Any:
        """The stock inputs of one step of `generate`; videos, like images, go in with the prompt alone."""
        if not kwargs.get("is_first_iteration") and kwargs.get("use_cache", True):
            kwargs = {name: value for name, value in kwargs.items() if name not in _WITH_THE_PROMPT}
        stock: Any = super()
        return stock.prepare_inputs_for_generation(*args, **kwargs)

    def _expand_inputs_for_generation(self, expand_size: int = 1, *args: Any, **kwargs: Any) -> Any:
        """The stock repetition of rows for beams, which would tear the frames of videos apart."""
        if expand_size > 1 and kwargs.get("frames_per_visual") is not None:
            raise ValueError(
                "generate cannot repeat rows with videos (num_beams, num_return_sequences); use "
                "locvlm.model.generate.generate_answers, or give each row as often as it is wanted"
            )
        stock: Any = super()
        return stock._expand_inputs_for_generation(expand_size, *args, **kwargs)

    def _target_states(
        self,
        input_ids: torch.Tensor,
        visuals: Visuals,
        position_ids: torch.Tensor,
        sample_ids: torch.Tensor,
        branch_ids: torch.Tensor,
        *,
        target_index: torch.Tensor,
    ) -> torch.Tensor:
        """Last hidden states of the tokens that predict a target: (T, D)."""
        embeds = self.get_input_embeddings()(input_ids)
        is_together = self.training and world_size() > 1
        if is_together:
            run_tower_as_often_as_others(self, visuals)  # here, since all must collect weights in one order
        if is_together and not visuals.are_there:
            embeds = self._with_blank_image(embeds)
        else:
            embeds, _ = self._place(visuals, input_ids, embeds)
        narrow = is_narrow(self.model.language_model)
        outputs = self.model.language_model(
            inputs_embeds=embeds,
            position_ids=position_ids,
            use_cache=False,
            **({"target_rows": target_index} if narrow else {}),
            **self.attention_keywords(sample_ids, branch_ids, dtype=embeds.dtype),
        )
        hidden = outputs.last_hidden_state.flatten(0, 1)  # (T, D), or (R * L, D) of a layer that is not ours
        return hidden if narrow else hidden[target_index]

    def attention_keywords(
        self, sample_ids: torch.Tensor, branch_ids: torch.Tensor, *, dtype: torch.dtype
    ) -> dict[str, Any]:
        """The language model's keywords that keep each token to its tree, for the attention in use."""
        text: Any = self.config.text_config
        if text._attn_implementation == TREE_ATTENTION:
            unused = torch.zeros(1, 1, 1, 1, device=sample_ids.device)  # 4D: the library then builds no mask
            return {"attention_mask": unused, "tree_layout": lay_out_trees(sample_ids, branch_ids)}
        if text._attn_implementation == FLEX_ATTENTION:
            return {"attention_mask": tree_block_mask(sample_ids, branch_ids)}
        require_masked_attention(text._attn_implementation)
        return {"attention_mask": tree_mask(sample_ids, branch_ids, dtype=dtype)}

    def _with_blank_image(self, embeds: torch.Tensor) -> torch.Tensor:
        """Token embeddings of text-only rows; a blank image goes through tower and adapter with weight zero.

        The other ranks may hold images, and all ranks must take part in the same collectives in one order.
        """
        canvas = self.spec.canvas
        blank = torch.zeros(1, 3, canvas, canvas, dtype=embeds.dtype, device=embeds.device)
        features = torch.cat(self.get_image_features(blank).pooler_output)
        return embeds + 0.0 * features.sum().to(embeds.dtype)


def _weighted_loss(
    logits: torch.Tensor,
    target_ids: torch.Tensor,
    target_weights: torch.Tensor,
    num_targets: float | torch.Tensor | None,
) -> torch.Tensor:
    """Weighted cross-entropy of the T targets over `num_targets`."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    token_losses = nn.functional.cross_entropy(exact, target_ids, reduction="none")  # (T,)
    weighted_sum = (token_losses * target_weights).sum()
    total = target_weights.sum() if num_targets is None else num_targets
    total = torch.as_tensor(total, dtype=weighted_sum.dtype, device=weighted_sum.device)
    return weighted_sum / torch.where(total > 0, total, 1.0)


# transformers renames published keys (`language_model.model...`, `vision_tower...`) only for its own classes
# and for names registered here; without this a public checkpoint would load with missing, hence random,
# weights.
register_checkpoint_conversion_mapping(
    LocVLM.__name__, get_checkpoint_conversion_mapping("llava") or [], overwrite=True
)
