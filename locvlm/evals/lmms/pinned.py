"""lmms-eval's command line with two things more decided: what resizes images, and the chat template.

    python -m locvlm.evals.lmms.pinned pil eval --model llava_hf --model_args pretrained=my-export ...

- Where torchvision is there, transformers 5 resizes with it, whatever `preprocessor_config.json` says, and is
  up to one level of 255 off Pillow, with which our models are trained. llava_hf has no option for it.
- llava_hf puts a system sentence of its own before the question where a tokenizer brings no template. Here
  the export's is set, and with it the sentence that the model was trained with.

This is run by the Python that lmms-eval is installed for, with the checkout on its path: it needs nothing
that our package needs.
"""

import runpy
import sys
from typing import Any

BACKENDS = ("pil", "torchvision")


def main() -> None:
    """Take the backend off the command line, fix it, hand over to lmms-eval."""
    backend, *arguments = sys.argv[1:]
    if backend not in BACKENDS:
        raise ValueError(f"the first argument is the image backend, {' or '.join(BACKENDS)}, got {backend!r}")
    _pin(backend)
    sys.argv = ["lmms_eval", *arguments]
    runpy.run_module("lmms_eval", run_name="__main__")


def _pin(backend: str) -> None:
    """From here on, processors resize with `backend` and their tokenizers have the folder's template."""
    from transformers import AutoProcessor

    processors: Any = AutoProcessor
    load = processors.from_pretrained

    def load_pinned(name: str, *args: Any, **more: Any) -> Any:
        processor = load(name, *args, **more, backend=backend)
        if not processor.chat_template:
            raise ValueError(
                f"{name} has no chat template, and llava_hf would ask with a system sentence of its own; "
                f"export it again with scripts/export_hf.py, which writes chat_template.jinja"
            )
        processor.tokenizer.chat_template = processor.chat_template
        return processor

    processors.from_pretrained = load_pinned


if __name__ == "__main__":
    main()
