"""Both passes over a small folder: described, sifted, found again; nothing is asked twice."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from PIL import Image

from locvlm.building.build import begin_build
from locvlm.building.captioning.captioner import Answer, Prompted
from locvlm.building.captioning.cycle import ELSEWHERE, NO_BOX, CycleCheck
from locvlm.building.captioning.describe import Describing
from locvlm.building.captioning.prefcoco import build_records, count_described
from locvlm.building.captioning.sift import SiftRules
from locvlm.building.options import add_build_options
from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box
from locvlm.records import ImageAnnotation, ObjectAnnotation

CONTRACT = CoordinateContract(canvas=224, patch=14)
BOXES = {"dog": Box(10, 10, 50, 50), "cat": Box(60, 20, 90, 60), "cow": Box(5, 60, 40, 75)}
SIZE = (100, 80)


@dataclass
class Model:
    """Describes every class in its own words, and knows where dogs are, and cats by half."""

    name: str = "model"
    identity: dict[str, str] = field(default_factory=lambda: {"weights": "1"})
    prompts_per_batch: int = 4
    asked: list[str] = field(default_factory=list)

    def describe(self, batches: Iterable[Sequence[Prompted]]) -> Iterator[list[list[Answer]]]:
        for batch in batches:
            self.asked += [prompt for item in batch for prompt in item.prompts]
            yield [[Answer(text=self.answer(prompt)) for prompt in item.prompts] for item in batch]

    def answer(self, prompt: str) -> str:
        if prompt.startswith("Describe the "):
            return f"A {prompt.split()[2]} here. It is there."
        if "A dog" in prompt:
            return self.located(BOXES["dog"])
        if "A cat" in prompt:
            return self.located(Box(60, 20, 90, 40))  # the upper half
        return "There is no such object in the image"

    def located(self, box: Box) -> str:
        return f"It is located at {CONTRACT.write(box, CONTRACT.frame_for(SIZE))}"


@pytest.fixture
def images(tmp_path):
    """Three images with a dog and a cat, a cat and a cow, a cow."""
    made = []
    for k, names in enumerate((("dog", "cat"), ("cat", "cow"), ("cow",))):
        Image.new("RGB", SIZE).save(tmp_path / f"{k}.png")
        objects = tuple(ObjectAnnotation(category=name, box_px=BOXES[name]) for name in names)
        made.append(
            ImageAnnotation(image_id=str(k), image=f"{k}.png", width=SIZE[0], height=SIZE[1], objects=objects)
        )
    return made


@pytest.fixture
def describing(tmp_path):
    """describing("--overwrite", max_words=9): how the output o.jsonl is made."""

    def make(*options: str, **rules) -> Describing:
        parser = argparse.ArgumentParser()
        add_build_options(parser)
        args = parser.parse_args(["--out", str(tmp_path / "o.jsonl"), *options])
        build = begin_build(args, inputs=[])
        assert build is not None
        return Describing(
            build=build,
            image_root=tmp_path,
            prompt="Describe the {category} please",
            rules=SiftRules(**rules),
            min_area_px=0.0,
            max_dropped_fraction=0.0,
        )

    return make


def check_by(model: Model, min_iou: float) -> CycleCheck:
    return CycleCheck(model=model, contract=CONTRACT, min_iou=min_iou)


def test_what_is_found_again_is_kept_and_the_rest_counted(images, describing):
    model, how = Model(), describing()
    described = how.describe(images, model)
    assert count_described(described) == {"images": 3, "objects": 5, "pairs": 10}
    kept = how.check(described, model, check_by(model, 0.45))
    assert count_described(kept) == {"images": 2, "objects": 3, "pairs": 6}
    how.finish(kept)
    assert how.descriptions.num_kept == 3
    assert dict(how.descriptions.dropped) == {NO_BOX: 2}
    assert how.checked_images.num_kept == 3
    records = list(build_records(kept, "model"))
    assert [[query.phrase for query in record.queries] for record in records] == [
        ["A dog here", "A cat here"],
        ["A cat here"],
    ]


def test_another_threshold_asks_nothing_again(images, describing):
    model, how = Model(), describing()
    how.check(how.describe(images, model), model, check_by(model, 0.45))
    num_asked = len(model.asked)
    how = describing("--overwrite")
    kept = how.check(how.describe(images, model), model, check_by(model, 0.6))
    assert count_described(kept)["objects"] == 1
    assert dict(how.descriptions.dropped) == {NO_BOX: 2, ELSEWHERE: 2}
    assert len(model.asked) == num_asked


def test_other_rules_keep_the_answers_and_ask_the_cycle_anew(images, describing):
    model, how = Model(), describing()
    how.check(how.describe(images, model), model, check_by(model, 0.45))
    model.asked.clear()
    how = describing(whole=True)
    described = how.describe(images, model)
    with pytest.raises(ValueError, match=r"other arguments \(whole"):
        how.check(described, model, check_by(model, 0.45))
    assert model.asked == []
    how = describing("--overwrite", whole=True)
    how.check(how.describe(images, model), model, check_by(model, 0.45))
    assert len(model.asked) == 5
    assert all("here. It is there" in prompt for prompt in model.asked)


def test_answers_of_other_weights_are_refused_and_replaced_if_asked_for(images, describing):
    describing().describe(images, Model())
    other = Model(identity={"weights": "2"})
    with pytest.raises(ValueError, match=r"other arguments \(weights: now '2', then '1'\)"):
        describing().describe(images, other)
    describing("--overwrite").describe(images, other)
    assert len(other.asked) == 5


def test_images_without_answers_stop_the_build_and_are_asked_again(images, describing, tmp_path):
    picture = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").unlink()
    with pytest.raises(ValueError, match="images asked about: dropped 1 of 3"):
        describing().describe(images, Model())
    (tmp_path / "1.png").write_bytes(picture)
    model = Model(prompts_per_batch=1)  # or what is in its batch is asked again, too
    assert count_described(describing().describe(images, model))["images"] == 3
    assert len(model.asked) == 2


def test_nothing_of_use_is_an_error_that_says_where_to_look(images, describing, tmp_path):
    how = describing(max_words=1)
    described = how.describe(images, Model())
    with pytest.raises(ValueError, match=r"no description is of use.*5 too long.*o\.jsonl\.answers\.jsonl"):
        how.finish(described)
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl.answers.jsonl").read_text().splitlines()]
    assert rows[1]["value"] == {
        "answers": [["A dog here. It is there.", False], ["A cat here. It is there.", False]]
    }


def test_a_prompt_without_a_class_is_refused(describing):
    how = describing()
    with pytest.raises(ValueError, match=r"holds '\{category\}' where"):
        Describing(
            build=how.build,
            image_root=how.image_root,
            prompt="What is it?",
            rules=how.rules,
            min_area_px=0.0,
            max_dropped_fraction=0.0,
        )
