"""The two passes of a build: every object is described, and what was said of it is checked.

    OUT.answers.jsonl   what the captioner said, all of it
    OUT.cycle.jsonl     where the described objects are, by the model of the cycle check

Both outlive the build. They depend on less than the output does: a build with other filters, or one that goes
on after a kill, finds in them what it need not ask again.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from locvlm.building.build import Build
from locvlm.building.captioning.captioner import Captioner
from locvlm.building.captioning.collect import Task, collect, read_answers
from locvlm.building.captioning.cycle import CycleCheck, cycle_prompts, found_again
from locvlm.building.captioning.prefcoco import DescribedImage, prompts_about, require_slot
from locvlm.building.captioning.sift import SiftRules, sift
from locvlm.building.journal import Journal
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Describing:
    """How objects are described, and the count of what came of it.

    Raises:
        ValueError: if the prompt names no class.
    """

    build: Build
    image_root: Path
    prompt: str
    rules: SiftRules
    min_area_px: float  # of the objects that are described; part of what makes answers the same
    max_dropped_fraction: float  # of images that cannot be read, or get no answer
    images: Ledger = field(default_factory=lambda: Ledger("images asked about"))
    checked_images: Ledger = field(default_factory=lambda: Ledger("images of the cycle check"))
    descriptions: Ledger = field(default_factory=lambda: Ledger("descriptions"))  # keeps are counted last

    def __post_init__(self) -> None:
        require_slot(self.prompt)

    def describe(self, images: Sequence[ImageAnnotation], captioner: Captioner) -> list[DescribedImage]:
        """Ask about every object, and sift the answers; images without any answer are left out.

        Raises:
            ValueError: if too many images cannot be read or get no answer. What was answered is kept: the
                same build again asks about those alone.
        """
        tasks = [Task(image=image, prompts=prompts_about(image, self.prompt)) for image in images]
        with closing(self._open("answers", self._asked_of(captioner))) as journal:
            answered = collect(tasks, captioner, journal, image_root=self.image_root, ledger=self.images)
            self.images.require_dropped_at_most(self.max_dropped_fraction)
            return [
                DescribedImage(
                    image=task.image,
                    described=sift(task.image, read_answers(journal, task), self.rules, self.descriptions),
                )
                for task in answered
            ]

    def check(
        self, images: Sequence[DescribedImage], captioner: Captioner, cycle: CycleCheck
    ) -> list[DescribedImage]:
        """Ask the model of the cycle check where every described object is; keep those that it finds.

        Args:
            captioner: who described them.

        Raises:
            ValueError: as `describe`.
        """
        asked = [item for item in images if item.described]
        prompts = [cycle_prompts(item.image, item.described, cycle) for item in asked]
        tasks = [Task(image=i.image, prompts=p) for i, p in zip(asked, prompts, strict=True)]
        made_by = {
            "descriptions": self._asked_of(captioner),
            "rules": asdict(self.rules),
            "model": dict(cycle.model.identity),
            "seed": cycle.seed,
        }
        with closing(self._open("cycle", made_by)) as journal:
            answered = collect(
                tasks, cycle.model, journal, image_root=self.image_root, ledger=self.checked_images
            )
            self.checked_images.require_dropped_at_most(self.max_dropped_fraction)
            answers = {task.id: read_answers(journal, task) for task in answered}
        return [
            DescribedImage(
                image=item.image,
                described=found_again(
                    item.image, item.described, answers[item.image.image_id], cycle, self.descriptions
                ),
            )
            for item in asked
            if item.image.image_id in answers
        ]

    def finish(self, images: Sequence[DescribedImage]) -> None:
        """Count what is kept in the end, which has to be something.

        Raises:
            ValueError: if no description is left.
        """
        self.descriptions.keep(sum(len(item.described) for item in images))
        logger.info("%s", self.descriptions.summary())
        if not self.descriptions.num_kept:
            raise ValueError(
                f"no description is of use: {self.descriptions.summary()}; what was answered is in "
                f"{self._path('answers')}: look at it, and try another captioner or prompt"
            )

    @property
    def ledgers(self) -> list[Ledger]:
        """What was kept and dropped, for the manifest."""
        return [self.images, self.checked_images, self.descriptions]

    def _asked_of(self, captioner: Captioner) -> dict[str, Any]:
        return {"prompt": self.prompt, "min_area_px": self.min_area_px, "captioner": dict(captioner.identity)}

    def _open(self, kind: str, made_by: Mapping[str, Any]) -> Journal:
        return Journal(
            self._path(kind),
            made_by={"inputs": list(self.build.made.inputs.values()), **made_by},
            overwrite=self.build.overwrite,
        )

    def _path(self, kind: str) -> Path:
        return self.build.out.with_name(f"{self.build.out.name}.{kind}.jsonl")
