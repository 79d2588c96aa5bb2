import pytest

from locvlm.config import load_config
from locvlm.training.arguments import Stage2Config
from locvlm.training.plan.data import ASSUMED, choose_lengths, size_of_data
from locvlm.training.plan.shapes import model_config


@pytest.fixture
def config(tiny_world, repo_root):
    """config(overrides...): of stage 2 on the tiny world."""

    def build(*overrides, number=2):
        arguments = tiny_world.stage(number, tiny_world.root / "unused", *overrides)
        arguments[1] = str(repo_root / arguments[1])
        return load_config(Stage2Config, arguments)

    return build


def choose(config, tiny_world, *, stage="stage2", tokenizer=None, **stated):
    model = model_config(tiny_world.init)
    return choose_lengths(config, stage, model=model, tokenizer=tokenizer, stated=stated)


def test_lengths_are_those_of_the_records_as_a_run_would_tokenize_them(config, tiny_world):
    lengths = choose(config(), tiny_world)
    assert lengths.source == "measured on 12 conversations"
    assert lengths.image_fraction == 1
    assert 2 <= lengths.branches <= 12
    assert 0 < lengths.branch_targets < lengths.branch_tokens
    pictures = [path.stat().st_size for path in tiny_world.images.iterdir()]
    assert lengths.image_bytes == pytest.approx(sum(pictures) / len(pictures))
    nfp = choose(config("--coords.codec", "nfp"), tiny_world)
    assert nfp.branch_tokens > lengths.branch_tokens  # more digits


def test_a_dialogue_is_one_branch(config, tiny_world):
    tree, dialogue = (
        choose(config("--packing.mode", mode), tiny_world) for mode in ("shared_prefix", "multi_turn")
    )
    assert dialogue.branches == 1
    assert dialogue.branch_targets == pytest.approx(tree.branches * tree.branch_targets)


def test_what_is_stated_wins_over_what_is_measured_and_the_rest_stays(config, tiny_world):
    measured = choose(config(), tiny_world)
    stated = choose(config(), tiny_world, branches=20.0)
    assert (stated.branches, stated.branch_tokens) == (20.0, measured.branch_tokens)
    with pytest.raises(ValueError, match="must be above 0"):
        choose(config(), tiny_world, branches=0.0)


def test_without_files_lengths_are_assumed_and_their_number_has_to_be_stated(config, tiny_world):
    absent = config("--data.sources.0.path", "data/none.jsonl")
    assert choose(absent, tiny_world) is not None
    assert choose(absent, tiny_world).source == ASSUMED["stage2"].source
    with pytest.raises(ValueError, match=r"no data/none\.jsonl.*--samples N"):
        size_of_data(absent.data, lengths=ASSUMED["stage2"], num_samples=None)
    size = size_of_data(absent.data, lengths=ASSUMED["stage2"], num_samples=1000)
    assert (size.conversations, size.file_bytes) == (1000, 1000 * 160e3)
    with pytest.raises(ValueError, match="--tokenizer: nowhere holds no tokenizer"):
        choose(absent, tiny_world, tokenizer="nowhere")


def test_records_that_are_there_are_counted_with_their_weights(config, tiny_world):
    lengths = choose(config(), tiny_world)
    size = size_of_data(config().data, lengths=lengths, num_samples=None)
    assert (size.conversations, size.source) == (12, "counted")
    pictures = sum(path.stat().st_size for path in tiny_world.images.iterdir())
    assert size.file_bytes == pytest.approx(tiny_world.records.stat().st_size + pictures)
    twice = size_of_data(config("--data.sources.0.weight", "2").data, lengths=lengths, num_samples=None)
    assert twice.conversations == 24
    assert twice.file_bytes == size.file_bytes
