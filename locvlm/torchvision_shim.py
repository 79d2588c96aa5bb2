"""Lets a torchvision built for CUDA be imported beside a CPU build of torch.

open_clip brings torchvision along, and on many machines pip picks its CUDA build. Beside a CPU torch its
compiled operators cannot load, and every import of it (open_clip, timm, peft, parts of transformers) dies
with `RuntimeError: operator torchvision::nms does not exist`: `torchvision/_meta_registrations.py` registers
fake kernels for two operators whose schemas only the compiled library declares. Declaring these two schemas
is enough to import it; calling `torchvision.ops.nms` still fails with torchvision's own message, and LocVLM
never calls it.

`install()` adds an import hook that acts when that one module is about to be imported: it costs nothing at
start, never imports torch by itself, and does nothing where torchvision's operators did load.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_HOOKED_MODULE = "torchvision._meta_registrations"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_fragments: list[Any] = []  # torch.library.Library objects; their declarations last as long as they do


class _SchemaHook(MetaPathFinder):
    """Declares the missing schemas just before torchvision needs them, then leaves the import to others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _HOOKED_MODULE:
            sys.meta_path.remove(self)
            _declare_missing_schemas()
        return None


def install() -> None:
    """Add the hook, once, unless torchvision was imported before."""
    is_installed = any(isinstance(finder, _SchemaHook) for finder in sys.meta_path)
    if not is_installed and _HOOKED_MODULE not in sys.modules:
        sys.meta_path.insert(0, _SchemaHook())


def _declare_missing_schemas() -> None:
    """Declare nms and qnms if torchvision's compiled operators did not load (torch is imported by now)."""
    extension = sys.modules.get("torchvision.extension")
    if extension is None or extension._has_ops():
        return
    import torch

    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)
    _fragments.append(library)
