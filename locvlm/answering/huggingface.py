"""Image-text checkpoints of transformers, asked in rows: each an image and a prompt, padded to one length.

It takes whatever class the library has for a checkpoint (LLaVA, BLIP-2, InstructBLIP, Kosmos-2, Qwen-VL),
with its own processor; what a prompt looks like is for others to say. Answers of a batch are those of every
row alone. Every row encodes its image anew, also where rows share one; our own checkpoints and LLaVA, which
`locvlm.py` asks, encode it once.

Decoders are padded on the left to generate and on the right to score, where causal attention never looks;
encoder-decoders on the right always: BLIP-2 puts the padding between image and text, and T5 counts distances
in columns, so that padding there would move the image away from the text. Kosmos-2 is not padded to generate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
)

from locvlm.answering.answerer import Decoding, OptionScore
from locvlm.answering.locvlm import default_device
from locvlm.model.generate import Draw
from locvlm.model.shared_prefix import PromptGroup
from locvlm.model.weight_files import require_no_misfit

# B rows of a batch, L tokens of the longest, V vocabulary

Side = Literal["left", "right"]
# Of the library's 5.23: its position of a new token counts the padding before the prompt.
_MISCOUNT = ("kosmos-2",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An image and what is asked about it, as the model's processor takes it."""

    image: Image.Image
    prompt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """An answer without special tokens and outer spaces."""

    text: str
    is_cut_off: bool  # it went on beyond the token limit


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTextModel:
    """Model and processor."""

    model: Any  # in eval mode
    processor: Any

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row], decoding: Decoding) -> list[Generated]:
        """The answers to the rows of one batch."""
        if not rows:
            return []
        images, prompts = [row.image for row in rows], [row.prompt for row in rows]
        inputs = self._encode(images, prompts, side="right" if self._has_encoder else "left")
        settings = self._settings(decoding)
        found: dict[int, Generated] = {}
        for part in self._parts(inputs):
            alike = inputs if len(part) == len(rows) else _select(inputs, part)
            drawn = [] if decoding.greedy else [_Drawn(alike, decoding)]
            generated = self.model.generate(**alike, generation_config=settings, logits_processor=drawn)
            new = _without_prompt(generated, alike["input_ids"]).tolist()
            found.update(
                (row, self._read(ids, decoding.max_new_tokens)) for row, ids in zip(part, new, strict=True)
            )
        return [found[row] for row in range(len(rows))]

    @torch.inference_mode()
    def option_scores(self, rows: Sequence[Row], options: Sequence[str]) -> list[OptionScore]:
        """How likely the option of each row of one batch is as its answer, its end token included.

        Raises:
            ValueError: for an empty option, or one that the tokenizer joins with the prompt.
        """
        if not rows:
            return []
        if not all(options):
            raise ValueError(f"an option needs text to be scored, got {list(options)}")
        images, prompts = [row.image for row in rows], [row.prompt for row in rows]
        asked = self._encode(images, prompts, side="right")
        if self._has_encoder:
            return self._score_by_decoder(asked, options)
        answered = [f"{prompt} {option}" for prompt, option in zip(prompts, options, strict=True)]
        whole = self._encode(images, answered, side="right")
        # what InstructBLIP shows its Q-Former is the question, without the answer
        whole.update({name: value for name, value in asked.items() if name.startswith("qformer_")})
        starts = [int(mask.sum()) for mask in asked["attention_mask"]]
        ends = [int(mask.sum()) for mask in whole["attention_mask"]]
        _require_same_start(asked["input_ids"], whole["input_ids"], starts, answered)
        whole = _with_end_token(whole, ends, self._end_ids[0])
        logits = self.model(**whole).logits  # (B, L + 1, V)
        return [
            _score(logits[row, start - 1 : end], whole["input_ids"][row, start : end + 1])
            for row, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]

    def count_tokens(self, rows: Sequence[Row]) -> list[int]:
        """How long each row is, those of its image included; which are as many for all images."""
        if not rows:
            return []
        texts = self.processor.tokenizer([row.prompt for row in rows])["input_ids"]
        first = self._encode([rows[0].image], [rows[0].prompt], side="left")["input_ids"]
        of_image = first.shape[1] - len(texts[0])
        return [len(ids) + of_image for ids in texts]

    def _parts(self, inputs: dict[str, Any]) -> list[list[int]]:
        """The rows that are decoded together: all, but for a model that miscounts behind padding."""
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        if self.model.config.model_type not in _MISCOUNT:
            return [list(range(len(lengths)))]
        return [[row for row, own in enumerate(lengths) if own == length] for length in sorted(set(lengths))]

    @property
    def _has_encoder(self) -> bool:
        text: Any = self.model.config.get_text_config()
        return bool(text.is_encoder_decoder)

    @property
    def _end_ids(self) -> list[int]:
        """The tokens that end an answer, the model's own if it says which; one at least."""
        ends = self._own("eos_token_id")
        ends = self.processor.tokenizer.eos_token_id if ends is None else ends
        return list(ends) if isinstance(ends, list | tuple) else [ends]

    def _own(self, name: str) -> Any:
        """A setting of generation: the checkpoint's, or that of its language model."""
        value = getattr(self.model.generation_config, name, None)
        return value if value is not None else getattr(self.model.config.get_text_config(), name, None)

    def _encode(self, images: Sequence[Image.Image], texts: Sequence[str], *, side: Side) -> dict[str, Any]:
        """The processor's tensors, on the model's device and in its precision."""
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = side
        bos = getattr(tokenizer, "bos_token", None)
        inputs = self.processor(
            images=[[image] for image in images],
            text=list(texts),
            padding=True,
            return_tensors="pt",
            # some templates write it themselves, and twice is not what the model was taught
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )
        return dict(inputs.to(self.model.device, self.model.dtype))

    def _settings(self, decoding: Decoding) -> GenerationConfig:
        """With the model's own end tokens and nothing else of its settings."""
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.beams,
            do_sample=False,  # draws are made by `_Drawn`
            eos_token_id=self._end_ids,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            bos_token_id=self._own("bos_token_id"),
            decoder_start_token_id=self._own("decoder_start_token_id"),
        )

    def _read(self, ids: list[int], limit: int) -> Generated:
        is_ended = len(ids) < limit or any(token in self._end_ids for token in ids)
        text = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return Generated(text=text.strip(), is_cut_off=not is_ended)

    def _score_by_decoder(self, asked: dict[str, Any], options: Sequence[str]) -> list[OptionScore]:
        """Options as what the decoder says to the encoded prompts."""
        texts = self.processor.tokenizer(list(options), add_special_tokens=False)["input_ids"]
        ids = [[*text, self._end_ids[0]] for text in texts]
        longest = max(map(len, ids))
        targets = torch.tensor([row + [-100] * (longest - len(row)) for row in ids], device=self.model.device)
        logits = self.model(**asked, labels=targets).logits
        return [
            _score(logits[row, : len(option)], targets[row, : len(option)]) for row, option in enumerate(ids)
        ]


def load_image_text_model(
    name: str, *, dtype: torch.dtype = torch.float32, device: str | None = None
) -> ImageTextModel:
    """A folder, or a name on the hub. Code that comes with a checkpoint is never run.

    Args:
        device: as torch names it; this rank's GPU by default, or the CPU where there is none.

    Raises:
        ValueError: if the checkpoint cannot be loaded, or lacks weights.
    """
    loader: Any = AutoModelForImageTextToText  # typed for a call without `output_loading_info`
    try:
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            name,
            trust_remote_code=False,
            backend="pil",  # torchvision's pixels differ by a level, and it is not everywhere
        )
        model, info = loader.from_pretrained(
            name,
            dtype=dtype,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, all at once
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be loaded as an image-text model ({' '.join(str(error).split())[:300]}); "
            f"expected a folder or hub name that transformers' AutoModelForImageTextToText reads, without "
            f"code of its own"
        ) from error
    # what is unknown does not matter to the answers; what is missing would be made up
    misshaped = {key: (tuple(got), tuple(wanted)) for key, got, wanted in info["mismatched_keys"]}
    require_no_misfit(missing=info["missing_keys"], unknown=(), misshaped=misshaped, where=name)
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    model.eval()
    model.to(device or default_device())
    return ImageTextModel(model=model, processor=processor)


class _Drawn(LogitsProcessor):
    """Leaves one token of each row: the one that is drawn. A row's draws depend on nothing beside it."""

    def __init__(self, inputs: dict[str, Any], decoding: Decoding) -> None:
        masks = inputs["attention_mask"].bool()
        groups = [
            PromptGroup(pixel_values=pixels, prompts=(tuple(ids[mask].tolist()),))
            for pixels, ids, mask in zip(inputs["pixel_values"], inputs["input_ids"], masks, strict=True)
        ]
        self._draw = Draw(groups, temperature=decoding.temperature, seed=decoding.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) in which only the drawn tokens are possible."""
        drawn = self._draw(scores, range(len(scores)))
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)


def _select(inputs: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The inputs of some rows, without the columns on the left in which all of them are padded."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"][rows]
    first = int(mask.any(dim=0).int().argmax())
    return {
        name: value[rows][:, first:]
        if value.shape == ids.shape and not name.startswith("qformer_")
        else value[rows]
        for name, value in inputs.items()
    }


def _without_prompt(generated: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """The new tokens alone: decoders repeat the prompt before them, encoder-decoders do not."""
    length = prompt.shape[1]
    repeats = generated.shape[1] >= length and torch.equal(generated[:, :length], prompt)
    return generated[:, length:] if repeats else generated


def _require_same_start(
    asked: torch.Tensor, whole: torch.Tensor, starts: Sequence[int], texts: Sequence[str]
) -> None:
    for prompt, ids, start, text in zip(asked, whole, starts, texts, strict=True):
        if not torch.equal(prompt[:start], ids[:start]):
            raise ValueError(
                f"the tokenizer joins the end of the prompt with the option in {text!r}, so the option has "
                f"no likelihood of its own; end the prompt with another character"
            )


def _with_end_token(inputs: dict[str, Any], ends: Sequence[int], end_id: int) -> dict[str, Any]:
    """Sequences with the end token behind the last token that is no padding: (B, L) -> (B, L + 1)."""
    ids = inputs["input_ids"]
    rows, columns = torch.arange(len(ends), device=ids.device), torch.tensor(ends, device=ids.device)
    longer = {
        name: torch.nn.functional.pad(value, (0, 1))
        for name, value in inputs.items()
        if value.shape == ids.shape and not name.startswith("qformer_")
    }
    longer["input_ids"][rows, columns] = end_id
    longer["attention_mask"][rows, columns] = 1
    return {**inputs, **longer}


def _score(logits: torch.Tensor, targets: torch.Tensor) -> OptionScore:
    """Of targets (T,) predicted by logits (T, V); at least in fp32."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    nats = -torch.nn.functional.cross_entropy(exact, targets, reduction="sum")
    return OptionScore(log_likelihood=float(nats), num_tokens=len(targets))
