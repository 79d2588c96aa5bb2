import time

import pytest
import torch

from locvlm.training.profiling.timeline import Timeline, watch


class Engine:
    def step(self):
        time.sleep(0.02)
        return "done"


def test_parts_add_up_to_the_time_between_resume_and_the_last_mark():
    timeline = Timeline(torch.device("cpu"))
    start = time.perf_counter()
    timeline.resume()
    time.sleep(0.01)
    timeline.mark("backward")
    time.sleep(0.02)
    timeline.mark("optimizer")
    whole = time.perf_counter() - start
    seconds = timeline.read()
    assert seconds["backward"] >= 0.01
    assert seconds["optimizer"] >= 0.02
    assert sum(seconds.values()) == pytest.approx(whole, abs=0.005)
    assert sum(timeline.read().values()) == 0


def test_marks_in_a_pause_do_not_count_and_the_pause_has_a_name_up_to_a_limit():
    timeline = Timeline(torch.device("cpu"))
    timeline.resume()
    timeline.pause()
    time.sleep(0.02)
    timeline.mark("language model")  # an evaluation, say
    timeline.resume("data wait", at_most_s=0.005)
    seconds = timeline.read()
    assert seconds["language model"] == 0
    assert seconds["data wait"] == pytest.approx(0.005)
    assert seconds["other"] >= 0.015


def test_a_method_is_watched_on_one_object_and_only_inside_the_block():
    timeline, engine = Timeline(torch.device("cpu")), Engine()
    timeline.resume()
    with watch(engine, "step", timeline, "optimizer", before="backward"):
        assert engine.step() == "done"
        assert Engine().step() == "done"
    seconds = timeline.read()
    assert 0.02 <= seconds["optimizer"] < 0.04
    assert vars(engine) == {}
