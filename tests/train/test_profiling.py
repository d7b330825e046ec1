"""Traces of chosen steps."""

import pytest

from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.train.profiling import read_steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("value, steps", [("", None), ("10:15", (10, 15)), ("3:3", (3, 3))])
def test_steps(value, steps):
    assert read_steps(value) == steps


@pytest.mark.parametrize("value", ["10", "10-15", "0:3", "5:4", "a:b", "1:2:3", "-1:3", ":", "²:3"])
def test_no_steps(value):
    with pytest.raises(
        UserError, match=rf"`profile={value}`: expected FIRST:LAST, .* e\.g\. 10:15"
    ):
        read_steps(value)


def _traces(workdir):
    return [path for path in (workdir / "profile").rglob("*.xplane.pb") if path.stat().st_size]


@pytest.mark.slow
def test_a_trace_and_what_is_reported(folder, tmp_path, capsys):
    config = small_run.run_config(folder, optimizer__epochs=1)
    small_run.train(config, tmp_path / "a", profile=(2, 9))
    assert len(_traces(tmp_path / "a")) == 1
    # the run has three steps
    assert f"profile: steps 2 to 3 traced into {tmp_path}/a/profile" in capsys.readouterr().out
    assert b"step" in _traces(tmp_path / "a")[0].read_bytes()


@pytest.mark.slow
def test_steps_that_are_done_already(folder, tmp_path, capsys):
    small_run.train(small_run.run_config(folder, optimizer__epochs=1), tmp_path)
    small_run.train(small_run.run_config(folder), tmp_path, resume=True, profile=(1, 2))
    assert "`profile=1:2`: none of these steps was run, nothing traced" in capsys.readouterr().out
    assert not (tmp_path / "profile").exists()
    small_run.train(
        small_run.run_config(folder, optimizer__epochs=3), tmp_path, resume=True, profile=(5, 8)
    )
    assert "profile: steps 7 to 8 traced" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_fails_ends_its_trace(folder, tmp_path):
    def evaluate(model, last, check):
        raise UserError("no evaluation")

    with pytest.raises(UserError, match="no evaluation"):
        small_run.train(small_run.run_config(folder), tmp_path, evaluate=evaluate, profile=(2, 5))
    assert len(_traces(tmp_path)) == 1
