"""Who does what."""

import pytest
from support.tasks import break_down, fail, tell, vanish

from co2s_cli.errors import InputError, ResourceError
from co2s_cli.inference import workers
from co2s_cli.inference.workers import Rank, helpers, rank_of_torchrun, wait_until


def test_one_process_has_no_helpers():
    with helpers(tell, 0, 1) as none:
        assert none is None


@pytest.mark.slow
def test_what_helpers_do_is_heard():
    heard = []
    with helpers(tell, 100, 3) as others:
        others.wait(heard.append)
    assert sum(heard) == 101 + 102


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (fail, InputError, "no such thing"),
        (break_down, RuntimeError, "ZeroDivisionError"),
        (vanish, ResourceError, "exit code 9"),
    ],
)
def test_a_helper_that_fails_is_heard(what, error, message):
    with helpers(what, 0, 2) as others, pytest.raises(error, match=message):
        others.wait(lambda _: None)


def test_ranks_come_from_torchrun_or_are_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert rank_of_torchrun() == Rank()
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank_of_torchrun() == Rank(5, 8, 1)


def test_waiting_ends_when_there_is_something(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.001)
    answers = iter([None, None, "there"])
    assert wait_until(lambda: next(answers)) == "there"
