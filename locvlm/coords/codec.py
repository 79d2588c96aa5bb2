"""Location codecs: a box or a point in canvas fractions <-> the text that a language model reads and writes.

Paper section 3.2 and appendix A. Below, the box (10, 120, 30, 145) of a 512 x 512 image on a canvas of 224:

    name  bbox                               point (the centre)  see
    nfp   (0.0195, 0.2344, 0.0586, 0.2832)   (0.0391, 0.2588)    coords/nfp.py
    ivb   (4, 52, 13, 63)                    (9, 58)             coords/ivb.py
    diga  (0, 4, 3, 11, 6, 0)                (0, 4, 2, -5)       coords/diga.py

Those of other systems, to compare with and to train like:

    shikra    [0.020, 0.234, 0.059, 0.283]   [0.039, 0.259]      coords/nfp.py; Shikra
    llava     [0.02, 0.23, 0.06, 0.28]       [0.04, 0.26]        coords/nfp.py; LLaVA-1.5
    thousand  [20, 234, 59, 283]             [39, 259]           coords/ivb.py; Ferret, Qwen-VL and others
    kosmos2   <object><patch_index_0224><patch_index_0289></object>        coords/kosmos2.py; Kosmos-2

Reading never guesses: it returns the first well-formed location of the text (coords/notation.py), or a
`ParseFailure` that says why there is none.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from locvlm.coords.diga import DIGA
from locvlm.coords.ivb import IVB
from locvlm.coords.kosmos2 import Kosmos2
from locvlm.coords.nfp import NFP
from locvlm.coords.notation import ParseFailure
from locvlm.geometry import Location
from locvlm.records import LocationKind

CODECS = ("nfp", "ivb", "diga", "shikra", "llava", "thousand", "kosmos2")


class Codec(Protocol):
    """Locations as text. Numbers are fractions of the canvas sides, [0, 1], on the number side."""

    @property
    def name(self) -> str:
        """One of `CODECS`."""

    @property
    def max_error(self) -> float:
        """Largest |decode(encode(v)) - v| of any coordinate, in fractions of the canvas side."""

    def encode(self, location: Location) -> str:
        """A box as bbox text, a point as point text. ValueError for a location that leaves the canvas."""

    def decode(self, text: str, kind: LocationKind) -> Location | ParseFailure:
        """The first well-formed location of `kind` in `text`, or why there is none."""


@lru_cache(maxsize=64)  # asked for with every location that is written
def build_codec(name: str, *, canvas: int, patch: int) -> Codec:
    """The codec called `name` for a square canvas of `canvas` pixels in patches of `patch` pixels.

    Raises:
        ValueError: unknown name, or a canvas that is not a whole number of patches.
    """
    codecs: dict[str, Callable[[], Codec]] = {
        "nfp": NFP,
        "ivb": lambda: IVB(num_bins=canvas),
        "diga": lambda: DIGA(canvas=canvas, patch=patch),
        "shikra": lambda: NFP(decimals=3, brackets="[]", name="shikra"),
        "llava": lambda: NFP(decimals=2, brackets="[]", name="llava"),
        "thousand": lambda: IVB(num_bins=1000, brackets="[]", name="thousand"),
        "kosmos2": Kosmos2,
    }
    if name not in codecs:
        raise ValueError(f"unknown codec {name!r}; choose one of {', '.join(CODECS)}")
    return codecs[name]()
