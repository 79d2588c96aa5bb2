"""Region Cell Matching ("Lost in Space", app. A): is the object of this phrase in this cell of the image?

The image is divided into 3 x 3 cells; an item says that the object is in one of them, rightly or wrongly. The
paper leaves some things open. Decided here, so that neither the cell nor the phrase alone tells the answer:

- The cell of an object is the one that holds the centre of its box; a centre on a border belongs to the cell
  to the right of it, or below.
- Positives: each cell has n, as many as the rarest cell has expressions; the others are drawn down to it.
- Negatives: N_i / 8 = n / 8 from every other cell is no whole number on the published splits (20.6 on val).
  Every pair of a said cell and another, true cell gets n // 8; for each said cell, n % 8 true cells give one
  more, such that each true cell gives as many as any other. So each cell is said n times rightly and n times
  wrongly, n objects of each cell are in negatives, and there are exactly 18 n items.
- Negatives ask about the expressions of the positives, so each is there once with "yes" and once with "no".
  `Negatives` "other" takes expressions that are not among the positives, as far as the cell has them.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from locvlm.geometry import Box
from locvlm.records import ImageAnnotation, ObjectAnnotation, Query, Record

# The paper names "top left", "top right", "middle", "middle right". Its "middle" is the central cell; the one
# above is "top middle" here, since the top left is "top", too.
CELLS = (
    "top left",
    "top middle",
    "top right",
    "middle left",
    "middle",
    "middle right",
    "bottom left",
    "bottom middle",
    "bottom right",
)
STATEMENT = 'The phrase "{phrase}" refers to the {cell} part of the image.'  # fig. 3
QUESTION = "{statement} Does the phrase match the location in the image?"  # what people were asked, app. A
_OTHERS = len(CELLS) - 1

Negatives = Literal["same", "other"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """One phrase for one object; `cell` is an index into CELLS."""

    id: str
    image: ImageAnnotation
    item: ObjectAnnotation
    phrase: str
    cell: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which expressions are asked about, by id."""

    positives: frozenset[str]
    negatives: Mapping[str, int]  # id -> the cell that is wrongly said of it
    available: tuple[int, ...]  # expressions of each cell, before they were drawn down

    @property
    def per_cell(self) -> int:
        """Positives of each cell, and negatives that say it."""
        return len(self.positives) // len(CELLS)


def cell_of(box_px: Box, width: int, height: int) -> int:
    """The index of the cell that holds the box's centre: Box(0, 0, 20, 20) of 300 x 300 -> 0, top left."""
    column, row = (
        min(2, int(3 * position / side))
        for position, side in zip(box_px.center, (width, height), strict=True)
    )
    return 3 * row + column


def expressions_of(images: Iterable[ImageAnnotation]) -> Iterator[Expression]:
    """Every phrase of every object, in order.

    Raises:
        ValueError: if two objects of an image cannot be told apart, since draws go by the expression's id.
    """
    seen: set[str] = set()
    for image in images:
        for item in image.objects:
            if not item.phrases:
                continue
            cell = cell_of(item.box_px, image.width, image.height)
            for number, phrase in enumerate(item.phrases):
                expression_id = f"{image.image_id}-{item.annotation_id}-{number}"
                if expression_id in seen:
                    raise ValueError(
                        f"two objects of image {image.image_id} have the annotation id "
                        f"{item.annotation_id!r}; make ids unique, since draws depend on them"
                    )
                seen.add(expression_id)
                yield Expression(id=expression_id, image=image, item=item, phrase=phrase, cell=cell)


def select(expressions: Sequence[Expression], *, seed: int, negatives: Negatives = "same") -> Selection:
    """Draw positives and negatives as the module says; the order of `expressions` does not matter.

    Raises:
        ValueError: if a cell has no expression, or `negatives` is unknown.
    """
    if negatives not in get_args(Negatives):
        raise ValueError(f"negatives must be one of {', '.join(get_args(Negatives))}, got {negatives!r}")
    cells: list[list[str]] = [[] for _ in CELLS]
    for expression in expressions:
        cells[expression.cell].append(expression.id)
    counts = {name: len(ids) for name, ids in zip(CELLS, cells, strict=True)}
    num_each = min(counts.values())
    if num_each == 0:
        raise ValueError(
            f"every cell needs at least one expression, so that they can be balanced; there are {counts}: "
            f"give more images"
        )
    drawn = [_shuffled(ids, f"{seed}/positive")[:num_each] for ids in cells]
    positives = frozenset(name for ids in drawn for name in ids)
    if negatives == "other":
        drawn = [
            # sort is stable: those that are no positives come first, in the order drawn
            sorted(_shuffled(ids, f"{seed}/negative"), key=positives.__contains__)[:num_each]
            for ids in cells
        ]
    return Selection(
        positives=positives,
        negatives=_say_other_cells(drawn, seed=seed),
        available=tuple(counts.values()),
    )


def wrong_cells(true_cell: int, num: int, *, seed: int) -> list[int]:
    """The cells to say of `num` objects of `true_cell`: the others num // 8 times, num % 8 of them once more.

    Which of them is drawn once for all true cells, as steps from it; so each cell is said as often as any
    other.
    """
    base, rest = divmod(num, _OTHERS)
    steps = range(1, len(CELLS))
    once_more = random.Random(f"{seed}/once more").sample(steps, rest)
    return [(true_cell + step) % len(CELLS) for step in steps for _ in range(base + (step in once_more))]


def build_rcm_records(expressions: Iterable[Expression], selection: Selection, *, split: str) -> list[Record]:
    """A record for every item, in the order of the expressions; the right cell before the wrong one."""
    return [
        _record(expression, said, split)
        for expression in expressions
        for said in _said_of(expression, selection)
    ]


def _say_other_cells(drawn: Sequence[Sequence[str]], *, seed: int) -> dict[str, int]:
    said: dict[str, int] = {}
    for cell, ids in enumerate(drawn):
        cells = wrong_cells(cell, len(ids), seed=seed)
        said.update(zip(_shuffled(ids, f"{seed}/said"), cells, strict=True))
    return said


def _said_of(expression: Expression, selection: Selection) -> Iterator[int]:
    if expression.id in selection.positives:
        yield expression.cell
    if expression.id in selection.negatives:
        yield selection.negatives[expression.id]


def _record(expression: Expression, said: int, split: str) -> Record:
    image, item, is_true = expression.image, expression.item, said == expression.cell
    statement = STATEMENT.format(phrase=expression.phrase, cell=CELLS[said])
    return Record(
        id=f"{expression.id}-{CELLS[said].replace(' ', '-')}",
        image=image.image,
        width=image.width,
        height=image.height,
        queries=(
            Query(
                objective="vqa",
                phrase=expression.phrase,
                category=item.category,
                box_px=item.box_px,
                question=QUESTION.format(statement=statement),
                answer="yes" if is_true else "no",
            ),
        ),
        source={
            "task": "rcm",
            "split": split,
            "image_id": image.image_id,
            "expression_id": expression.id,
            "phrase": expression.phrase,
            "statement": statement,
            "cell": CELLS[said],
            "true_cell": CELLS[expression.cell],
            "label": is_true,
            "box_px": list(item.box_px),
        },
    )


def _shuffled(ids: Iterable[str], draw: str) -> list[str]:
    """The ids in an order that depends on each of them and on `draw` alone."""
    return sorted(ids, key=lambda name: (random.Random(f"{draw}/{name}").random(), name))
