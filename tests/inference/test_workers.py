"""Who does what."""

import logging

import pytest
from support.tasks import break_down, fail, speak, tell, vanish

from co2s_cli import log
from co2s_cli.errors import InputError, ResourceError
from co2s_cli.inference.workers import Share, helpers


def test_one_process_has_no_helpers():
    with helpers(tell, 0, 1, print) as none:
        assert none is None


@pytest.mark.slow
def test_what_helpers_do_is_heard():
    heard, notes = [], []
    with helpers(tell, 100, 3, notes.append) as others:
        others.wait(heard.append)
    assert sum(heard) == 101 + 102
    assert sorted(notes) == ["share 1", "share 2"]


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
    with helpers(what, 0, 2, print) as others, pytest.raises(error, match=message):
        others.wait(lambda _: None)


def test_shares_are_consecutive_and_together_everything():
    units = list(range(11))
    shares = [Share(index, 3).of(units) for index in range(3)]
    assert [unit for share in shares for unit in share] == units
    assert Share().of(units) == units


@pytest.mark.slow
@pytest.mark.parametrize(("amount", "heard"), [(1, True), (-1, False)])
def test_helpers_keep_the_verbosity(capfd, amount, heard):
    level, handlers = logging.getLogger("co2s_cli").level, logging.getLogger().handlers[:]
    log.setup(amount)
    try:
        with helpers(speak, 0, 2, print) as others:
            others.wait(lambda _: None)
    finally:
        logging.getLogger("co2s_cli").setLevel(level)
        logging.getLogger().handlers[:] = handlers
    assert ("helper speaks" in capfd.readouterr().err) == heard
