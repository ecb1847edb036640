"""The trace of some steps: which ones, where it lies, and that nothing else changes."""

import dataclasses
import logging

import jax
import pytest
from test_train import TINY, quiet

from rvpo_jax.config import LogConfig
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.profile import STEP, traced_steps
from rvpo_jax.train import NonFiniteError

SHORT = dataclasses.replace(TINY, steps=4)


def with_profile(profile, **changes):
    return dataclasses.replace(SHORT, log=dataclasses.replace(TINY.log, profile=profile), **changes)


def traces(folder):
    return sorted(folder.rglob("*.xplane.pb"))


def steps_in(path):
    """The numbers of the steps in a trace."""
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events]
    return {dict(event.stats)["step_num"] for event in events if event.name == STEP}


def numbers(workdir):
    timed = ("time", "perf/")
    return [
        {name: value for name, value in row.items() if not name.startswith(timed)}
        for row in read_metrics(workdir)
    ]


@pytest.mark.slow
def test_the_steps_are_in_the_trace_and_the_run_is_the_same(tmp_path):
    plain = quiet(SHORT, tmp_path / "plain")
    traced = quiet(with_profile("1:3"), tmp_path / "traced")
    (trace,) = traces(tmp_path / "traced" / "profile")
    assert steps_in(trace) == {1, 2}
    assert numbers(tmp_path / "traced") == numbers(tmp_path / "plain")
    for one, other in zip(*map(jax.tree.leaves, (plain.params, traced.params)), strict=True):
        assert (one == other).all()


def test_a_trace_is_written_also_when_its_step_raises(tmp_path):
    with (
        pytest.raises(NonFiniteError, match="a step"),
        traced_steps(with_profile("2:4"), tmp_path, 0) as steps,
    ):
        for step in steps:
            if step == 2:
                raise NonFiniteError("a step")
    assert len(traces(tmp_path)) == 1


def test_a_run_that_goes_on_traces_what_is_left_and_says_when_nothing_is(tmp_path, caplog):
    with traced_steps(with_profile("1:3"), tmp_path / "some", 2) as steps:
        assert list(steps) == [2, 3]
    assert steps_in(*traces(tmp_path / "some")) == {2}
    with caplog.at_level(logging.WARNING), traced_steps(with_profile("1:3"), tmp_path, 3) as steps:
        assert list(steps) == [3]
    assert "log.profile 1:3: these steps were made before." in caplog.text
    assert len(traces(tmp_path)) == 1


@pytest.mark.parametrize("text", ["10", "3:3", "3:2", "a:b", "1:-2", "1:2:3", "", "1:2\n", "1 :2"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"log.profile must read FIRST:END, two steps, got"):
        LogConfig(profile=text)


def test_steps_that_are_not_made_are_refused():
    assert with_profile("3:4").log.profiled == (3, 4)
    with pytest.raises(ValueError, match="log.profile must end by step 4, .* got 3:5"):
        with_profile("3:5")
