"""Any image-text checkpoint of transformers as a captioner: LLaVA, BLIP-2, Qwen-VL, and ours exported."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from locvlm.answering.answerer import Decoding
from locvlm.answering.checkpoints import identity_of
from locvlm.answering.huggingface import ImageTextModel, Row, load_image_text_model
from locvlm.building.captioning.captioner import Answer, Prompted

PROMPT_SLOT = "{prompt}"  # of a prompt format


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceCaptioner:
    """A model and how it is prompted; a row per prompt."""

    name: str
    model: ImageTextModel
    identity: Mapping[str, str]
    max_new_tokens: int
    prompts_per_batch: int
    prompt_format: str = ""  # in the place of the processor's chat template

    def describe(self, batches: Iterable[Sequence[Prompted]]) -> Iterator[list[list[Answer]]]:
        """See `Captioner`."""
        for batch in batches:
            rows = [
                Row(image=item.picture.image, prompt=self._render(prompt))
                for item in batch
                for prompt in item.prompts
            ]
            generated = self.model.generate(rows, Decoding(max_new_tokens=self.max_new_tokens))
            answers = (Answer(text=said.text, is_cut_off=said.is_cut_off) for said in generated)
            yield [list(islice(answers, len(item.prompts))) for item in batch]

    def _render(self, prompt: str) -> str:
        if self.prompt_format:
            return self.prompt_format.replace(PROMPT_SLOT, prompt)
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        rendered: str = self.model.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return rendered


def load_huggingface_captioner(
    name: str,
    *,
    max_new_tokens: int,
    prompts_per_batch: int,
    prompt_format: str = "",
    dtype: str = "float32",
    device: str = "",
) -> HuggingFaceCaptioner:
    """A folder, or a name on the hub, as a captioner. Code that comes with a checkpoint is never run.

    Args:
        prompt_format: text with `{prompt}` and what the processor wants for the image, such as
            "USER: <image>\\n{prompt} ASSISTANT:"; empty takes the checkpoint's chat template.
        dtype: name of a torch type, "float32" or "bfloat16".
        device: as torch names it; empty takes this rank's GPU, or the CPU.

    Raises:
        ValueError: if there is neither a chat template nor a prompt format, or the checkpoint cannot be
            loaded.
    """
    if prompt_format and PROMPT_SLOT not in prompt_format:
        raise ValueError(
            f"a prompt format holds {PROMPT_SLOT!r} where the prompt stands, got {prompt_format!r}"
        )
    model = load_image_text_model(name, dtype=getattr(torch, dtype), device=device or None)
    if not prompt_format and not getattr(model.processor, "chat_template", None):
        raise ValueError(
            f"{name} has no chat template, so nothing says how it is asked; give --prompt-format, such as "
            f"'USER: <image>\\n{{prompt}} ASSISTANT:' (LLaVA 1.5) or 'Question: {{prompt}} Answer:' (BLIP-2)"
        )
    return HuggingFaceCaptioner(
        name=name,
        model=model,
        identity={
            "weights": identity_of(name, model.model.config),
            "dtype": dtype,
            "max_new_tokens": str(max_new_tokens),
            "prompt_format": prompt_format,
        },
        max_new_tokens=max_new_tokens,
        prompts_per_batch=prompts_per_batch,
        prompt_format=prompt_format,
    )
