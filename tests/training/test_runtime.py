"""What the end of other processes looks like from here, and who tells of an error that several have."""

import os
import signal

import pytest
import torch.distributed as dist

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.training.runtime import LostError, first_to_say, started


@pytest.fixture
def rank(monkeypatch):
    """This process is one of two."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)


@pytest.mark.parametrize(
    "error",
    [dist.DistNetworkError("closed"), RuntimeError("[/src/third_party/gloo/pair.cc:5] Connection reset by peer")],
)
def test_that_another_process_is_gone_is_said_plainly(rank, error):
    with pytest.raises(LostError, match="another process"), started("cpu"):
        raise error


def test_an_error_of_the_model_stays_what_it_is(rank):
    with pytest.raises(RuntimeError, match="size mismatch"), started("cpu"):
        raise RuntimeError("size mismatch")


def test_the_end_from_outside_is_an_error_like_others(rank):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(LostError, match="ended from outside"), started("cpu"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def store(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    made = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(made.port))
    yield made
    signal.signal(signal.SIGTERM, before)


def test_each_error_is_told_once(store):
    told = [first_to_say(error) for error in (ConfigError("a"), ConfigError("a"), InputError("b"), LostError())]
    assert told == [True, False, True, False]


def test_lost_processes_are_told_of_where_nobody_said_why(store, monkeypatch):
    assert [first_to_say(LostError()) for _ in range(2)] == [True, False]
    assert first_to_say(ConfigError("why"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert first_to_say(ConfigError("why"))


def test_without_a_store_each_tells_its_own(store, monkeypatch):
    monkeypatch.delenv("MASTER_PORT")
    assert first_to_say(ConfigError("a"))
