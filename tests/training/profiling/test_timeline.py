from types import SimpleNamespace

import pytest
import torch

from locvlm.training.profiling import timeline as module
from locvlm.training.profiling.timeline import Timeline, watch


class Clock:
    """Stands still but for what is waited: a busy machine changes nothing."""

    def __init__(self):
        self.now = 100.0

    def wait(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class Engine:
    def __init__(self, clock):
        self.clock = clock

    def step(self):
        self.clock.wait(2)
        return "done"


def test_parts_add_up_to_the_time_between_resume_and_the_last_mark(clock):
    timeline = Timeline(torch.device("cpu"))
    timeline.resume()
    clock.wait(1)
    timeline.mark("backward")
    clock.wait(2)
    timeline.mark("optimizer")
    seconds = timeline.read()
    assert (seconds["backward"], seconds["optimizer"]) == (1, 2)
    assert sum(seconds.values()) == 3
    assert sum(timeline.read().values()) == 0


def test_marks_in_a_pause_do_not_count_and_the_pause_has_a_name_up_to_a_limit(clock):
    timeline = Timeline(torch.device("cpu"))
    timeline.resume()
    timeline.pause()
    clock.wait(3)
    timeline.mark("language model")  # an evaluation, say
    timeline.resume("data wait", at_most_s=1)
    seconds = timeline.read()
    assert (seconds["language model"], seconds["data wait"], seconds["other"]) == (0, 1, 2)


def test_a_method_is_watched_on_one_object_and_only_inside_the_block(clock):
    timeline, engine = Timeline(torch.device("cpu")), Engine(clock)
    before = dict(vars(engine))
    timeline.resume()
    with watch(engine, "step", timeline, "optimizer", before="backward"):
        clock.wait(1)
        assert engine.step() == "done"
        assert Engine(clock).step() == "done"
    seconds = timeline.read()
    assert (seconds["backward"], seconds["optimizer"]) == (1, 2)
    assert vars(engine) == before
