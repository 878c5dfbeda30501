"""Several processes of one run: what one of them has said, the others do not say again."""

import pytest

from co2s_cli.training import runtime


@pytest.mark.parametrize("first", [True, False])
def test_one_process_tells_of_an_error(co2s, tmp_path, monkeypatch, first):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "")
    asked = []
    monkeypatch.setattr(runtime, "first_to_say", lambda error: asked.append(error.message) or first)
    result = co2s("train", tmp_path / "data.yaml", "--set", "colour=red")
    assert result.exit_code == 2
    assert asked == ["colour: no such setting"]
    assert ("colour: no such setting" in result.stderr) == first


def test_a_process_alone_asks_nobody(co2s, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "first_to_say", lambda _: pytest.fail("asked"))
    assert co2s("train", tmp_path / "data.yaml", "--set", "colour=red").exit_code == 2
