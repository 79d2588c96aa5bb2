from dataclasses import replace

import numpy as np
import pytest

from locvlm.config import load_config
from locvlm.data.loader import StepLoader
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.data.tokenize import load_tokenizer
from locvlm.io import read_jsonl, write_jsonl
from locvlm.model.locvlm import LocVLM
from locvlm.training.arguments import Stage2Config
from locvlm.training.preflight.survey import spread, survey
from locvlm.training.preflight.trial import choose_steps
from locvlm.training.stages.data import PixelOpener, Renderer


@pytest.fixture
def builder(tiny_world, repo_root):
    """builder(overrides...): of stage 2 on the tiny world, twelve conversations, six a step."""

    def build(*overrides) -> StepBuilder:
        arguments = tiny_world.stage(2, tiny_world.root / "unused", *overrides)
        arguments[1] = str(repo_root / arguments[1])
        config = load_config(Stage2Config, arguments)
        model = LocVLM.from_pretrained(tiny_world.init)
        data = config.data
        datasets, mixture = open_sources(data.sources, seed=0, conversations_per_step=6)
        return StepBuilder(
            mixture=mixture,
            datasets=datasets,
            render=Renderer(model.contract, data),
            open_pixels=PixelOpener(model.contract, model.spec),
            tokenizer=load_tokenizer(tiny_world.init),
            conversation=data.conversation,
            vision=model.spec,
            packing=config.packing,
            shape=StepShape(accumulation=2, rows_per_pass=2),
        )

    return build


def test_steps_are_spread_from_the_first_to_the_last():
    assert spread(100, 3) == [0, 49, 99]
    assert spread(2, 64) == [0, 1]


def test_a_step_is_found_as_it_would_be_fed(builder):
    steps = builder()
    found = survey(steps, [0, 1])
    assert (found.problems, found.num_dropped, found.num_conversations) == ((), 0, 12)
    assert (found.num_images, found.image_problems) == (12, ())
    for facts in found.steps:
        batches = steps.build(facts.step, rank=0).batches
        assert facts.images == sum(len(batch["pixel_values"]) for batch in batches)
        assert facts.targets == sum(len(batch["target_index"]) for batch in batches)
        assert facts.tokens == sum(int((batch["sample_ids"] >= 0).sum()) for batch in batches)
        slots = sum(batch["input_ids"].numel() for batch in batches)
        assert facts.slots <= slots < facts.slots + 4 * 8  # the collator rounds each of four rows up
        assert facts.tokens <= facts.slots
        assert facts.pairs < facts.dense_pairs
    assert found.heaviest[0] == max(found.steps, key=lambda facts: facts.longest_row).step


def test_a_step_that_does_not_fit_is_a_problem_and_not_the_end(builder):
    steps = builder("--packing.max_row_tokens", "160")
    found = survey(steps, [0, 1])
    assert len(found.steps) + len(found.problems) == 2
    assert all("do not fit" in text or "longer than a row" in text for text in found.problems)
    assert found.problems


def test_unreadable_images_and_malformed_records_are_counted(builder, tiny_world, tmp_path):
    rows = [row for _, row in read_jsonl(tiny_world.records)]
    rows[3]["image"] = "nowhere.png"
    rows[7]["queries"][0]["objective"] = "locperd"
    write_jsonl(tmp_path / "broken.jsonl", rows)
    found = survey(builder("--data.sources.0.path", str(tmp_path / "broken.jsonl")), [0, 1])
    assert (found.num_dropped, found.num_images) == (1, 11)
    (problem,) = found.image_problems
    assert "nowhere.png" in problem
    assert survey(builder(), [0, 1], num_images=5).num_images == 5


def test_chosen_steps_come_first_and_the_usual_ones_after(builder):
    plain = StepLoader(builder(), num_steps=4)
    chosen = StepLoader(builder(), num_steps=4)
    choose_steps(chosen, (3, 1))
    usual, first = list(plain), list(chosen)
    order = [3, 1, 2, 3]
    for place, step in enumerate(order):
        for batch, expected in zip(
            first[2 * place : 2 * place + 2], usual[2 * step : 2 * step + 2], strict=True
        ):
            assert np.array_equal(batch["input_ids"], expected["input_ids"])
    assert chosen.builder == replace(chosen.builder)  # still a builder
