"""lmms-eval's command line with one thing more decided: which library resizes images.

    python -m locvlm.evals.lmms.pinned pil eval --model llava_hf --model_args pretrained=my-export ...

Where torchvision is there, transformers 5 resizes with it, whatever `preprocessor_config.json` says, and is up to
one level of 255 off Pillow, with which our models are trained. llava_hf has no option for it. Run by the Python
that lmms-eval is installed for, with this checkout on its path: so what is imported here is in that environment
too.
"""

import runpy
import sys
from functools import partial
from typing import Any

BACKENDS = ("pil", "torchvision")


def main() -> None:
    """Take the backend off the command line, fix it, hand over to lmms-eval."""
    backend, *arguments = sys.argv[1:]
    if backend not in BACKENDS:
        raise ValueError(f"the first argument is the image backend, {' or '.join(BACKENDS)}, got {backend!r}")
    from transformers import AutoProcessor

    processors: Any = AutoProcessor
    processors.from_pretrained = partial(processors.from_pretrained, backend=backend)
    sys.argv = ["lmms_eval", *arguments]
    runpy.run_module("lmms_eval", run_name="__main__")


if __name__ == "__main__":
    main()
