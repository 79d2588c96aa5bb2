import argparse

import pytest

from locvlm.building.captioning.huggingface import HuggingFaceCaptioner
from locvlm.building.captioning.options import add_captioner_options, deciding, open_captioner, open_cycle
from locvlm.building.captioning.own import OwnCaptioner
from locvlm.building.captioning.server import ServerCaptioner


def parse(*arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_captioner_options(parser)
    parser.add_argument("--cycle-check", type=float)
    parser.add_argument("--cycle-model")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(map(str, arguments)))


@pytest.fixture(scope="module")
def llava(foreign):
    """The tiny checkpoint without what makes it ours."""
    return foreign("llava")


def test_what_the_name_stands_for_decides_the_captioner(tiny_world, llava, serve):
    own = open_captioner(parse("--captioner", tiny_world.init))
    assert isinstance(own, OwnCaptioner)
    assert own.name == str(tiny_world.init)
    other = open_captioner(
        parse("--captioner", llava, "--prompt-format", "USER: <image>\\n{prompt} ASSISTANT:")
    )
    assert isinstance(other, HuggingFaceCaptioner)
    assert other.prompt_format == "USER: <image>\n{prompt} ASSISTANT:"
    endpoint = serve(lambda question, number: "fine")
    server = open_captioner(parse("--captioner", endpoint.url, "--served-model", "mine", "--concurrency", 3))
    assert isinstance(server, ServerCaptioner)
    assert (server.name, server.server.options.concurrency) == ("mine", 3)


def test_only_models_that_say_how_they_write_boxes_check_the_cycle(tiny_world, llava, serve):
    checked = ("--cycle-check", 0.5)
    assert open_cycle(parse("--captioner", llava), None) is None
    args = parse("--captioner", tiny_world.init, *checked)
    own = open_captioner(args)
    cycle = open_cycle(args, own)
    assert cycle is not None
    assert (cycle.model, cycle.contract, cycle.min_iou) == (own, own.contract, 0.5)
    args = parse("--captioner", llava, *checked)
    with pytest.raises(ValueError, match=r"model has no coordinate contract.*--cycle-model"):
        open_cycle(args, open_captioner(args))
    with_model = parse("--captioner", llava, *checked, "--cycle-model", tiny_world.init)
    assert open_cycle(with_model, open_captioner(with_model)).contract == own.contract
    with pytest.raises(ValueError, match="no coordinate contract"):
        open_cycle(parse("--captioner", tiny_world.init, *checked, "--cycle-model", llava), own)


def test_options_that_do_not_go_together_are_refused(llava, tmp_path):
    with pytest.raises(ValueError, match="--adapter goes into a checkpoint of ours"):
        open_captioner(parse("--captioner", llava, "--adapter", tmp_path))
    with pytest.raises(ValueError, match="must be 1 or more, got 0 and 32"):
        open_captioner(parse("--captioner", llava, "--max-new-tokens", 0))


def test_where_and_how_fast_a_server_runs_does_not_decide_what_is_built():
    one = parse("--captioner", "http://node7:8000/v1", "--concurrency", 3, "--key-variable", "MY_KEY")
    other = parse("--captioner", "https://node9/v1", "--timeout", 5)
    assert vars(deciding(one)) == vars(deciding(other))
    assert "node7" not in str(deciding(one))
    longer = parse("--captioner", "https://node9/v1", "--max-new-tokens", 5)
    assert vars(deciding(longer)) != vars(deciding(other))
    assert deciding(parse("--captioner", "runs/stage1")).captioner == "runs/stage1"
