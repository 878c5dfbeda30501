"""The state of a run comes back as it went, or is refused: no changed byte is taken up."""

import pytest
import torch

from co2s_cli.errors import ModelError, OutputError
from co2s_cli.training.names import METRICS, STATE
from co2s_cli.training.records import refuse_older
from co2s_cli.training.state import State


@pytest.fixture
def state():
    torch.manual_seed(0)
    return State(
        step=3,
        manifest="{}",
        model={"weight": torch.rand(40, 30), "count": torch.tensor(7)},
        ema={},
        optimizer={"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.rand(40, 30)}}, "param_groups": []},
        scaler={},
        best={"step": 2.0, "miou": 0.5},
        settings={"seed": 0, "scale": [0.5, 2.0], "processes": 1},
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(same(a[key], b[key]) for key in a | b) if isinstance(a, dict) else a == b


def facts(state):
    return {name: getattr(state, name) for name in State.__slots__}


@pytest.mark.parametrize("lazily", [False, True])
def test_no_changed_byte_changes_what_is_taken_up(tmp_path, state, lazily):
    state.save(tmp_path)
    path = tmp_path / STATE
    whole = path.read_bytes()
    assert same(facts(State.load(tmp_path, lazily=lazily)), facts(state))
    refused = 0
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        try:
            assert same(facts(State.load(tmp_path, lazily=lazily)), facts(state)), place
        except ModelError:
            refused += 1
    assert refused > len(whole) / 41 / 2  # the others lie between records, where nothing is read


@pytest.mark.parametrize("size", [0, 10, 0.5, 0.99])
def test_a_partial_copy_is_refused(tmp_path, state, size):
    state.save(tmp_path)
    whole = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(whole[: int(size if size > 1 else len(whole) * size)])
    with pytest.raises(ModelError, match=r"state.pt: is damaged, or no whole state of a run") as caught:
        State.load(tmp_path)
    assert "put a whole copy back" in caught.value.hint


def test_settings_other_than_those_of_the_run_are_named(tmp_path, state):
    state.check_settings(tmp_path, {"seed": 0, "scale": [0.5, 2.0]})
    state.check_settings(tmp_path, {"seed": 0, "of_a_later_version": 1})
    with pytest.raises(OutputError, match=r"config.yaml: seed is 1, the run in state.pt has 0"):
        state.check_settings(tmp_path, {"scale": [0.5, 2.0], "seed": 1})


def test_records_may_reach_to_the_next_state_and_no_further(tmp_path):
    refuse_older(tmp_path, 3, every=4)
    path = tmp_path / METRICS
    path.write_text('{"step": 4, "loss": 1}\n{"step": 4, "miou": 1}\n{"step": 5, "lo')
    refuse_older(tmp_path, 3, every=4)
    path.write_text('{"step": 4, "loss": 1}\n{"step": 5, "loss": 1}\n')
    refuse_older(tmp_path, 4, every=4)
    with pytest.raises(ModelError, match=r"its state is of step 3, but metrics.jsonl reaches step 5"):
        refuse_older(tmp_path, 3, every=4)
