"""The run of all checks: nothing is lost wherever it ends, and each check is limited in time."""

import json
import sys

import pytest

from co2s_cli.errors import InterruptError
from co2s_cli.jobs.gpu import proof, task


@pytest.fixture
def said(monkeypatch):
    """What the processes of the checks run, by name; each has told a figure before."""
    scripts = {}

    def command_of(name, device, folder, scratch, *, small):
        (folder / f"{name}.jsonl").write_text('{"half": {"value": 0.5}}\n')
        return [sys.executable, "-S", "-c", "import sys; " + scripts.get(name, "")]

    monkeypatch.setattr(proof, "command_of", command_of)
    return scripts


def outcomes(folder):
    return {one["name"]: one for one in json.loads((folder / proof.FIGURES_FILE).read_text())["outcomes"]}


def test_without_a_gpu_the_command_says_so_and_is_content(tmp_path, monkeypatch, co2s):
    monkeypatch.setattr(proof.torch.cuda, "is_available", lambda: False)
    result = co2s("doctor", "--gpu", "--gpu-out", tmp_path / "gpu")
    assert result.exit_code == 0
    assert "no CUDA device" in result.stdout
    assert not (tmp_path / "gpu").exists()


def test_a_check_that_fails_fails_the_command(tmp_path, monkeypatch, co2s):
    outcomes = (proof.Outcome("staging", "check", "failed", error="batch 2 is wrong"),)
    monkeypatch.setattr(proof, "run", lambda folder, **_: proof.ProofResult(folder, {}, outcomes))
    result = co2s("doctor", "--gpu", "--gpu-out", tmp_path)
    assert result.exit_code == 6
    assert "staging" in result.stderr
    assert "report.md" in result.stderr


def test_each_outcome_is_told_as_what_it_is(tmp_path, said):
    said |= {
        "staging": "sys.stderr.write('a warning' + chr(10) + 'batch 2 is wrong'); sys.exit(1)",
        "MPS": f"sys.exit({proof.SKIPPED})",
    }
    result = proof.run(tmp_path, device="cpu", only=["predict fp32", "staging", "MPS"])
    told = outcomes(tmp_path)
    assert {name: one["state"] for name, one in told.items()} == {
        "predict fp32": "passed", "staging": "failed", "MPS": "skipped",
    }  # fmt: skip
    assert told["staging"]["error"] == "batch 2 is wrong"
    assert result.failed == ("staging",)
    report = (tmp_path / proof.REPORT).read_text()
    assert "| staging | failed |" in report
    assert "batch 2 is wrong" in report


def test_a_measurement_that_takes_too_long_is_ended_and_keeps_what_it_told(tmp_path, said, monkeypatch):
    monkeypatch.setattr(proof, "FIGURE_SECONDS", 1)
    said["pair"] = "import time; time.sleep(600)"
    proof.run(tmp_path, device="cpu", only=["staging", "pair"])
    told = outcomes(tmp_path)
    assert (told["staging"]["state"], told["pair"]["state"]) == ("passed", "late")
    assert told["pair"]["figures"] == {"half": {"value": 0.5}}


def test_what_does_not_fit_into_the_whole_time_is_not_begun(tmp_path, said):
    proof.run(tmp_path, device="cpu", only=["pair"], limit=5)
    assert outcomes(tmp_path)["pair"]["state"] == "not begun"


def test_an_interrupted_run_keeps_what_is_done(tmp_path, said, monkeypatch):
    real = proof._run_one

    def interrupted(folder, name, *arguments, **named):
        if name == "staging":
            (folder / "staging.jsonl").write_text('{"part": {"value": 1}}\n{"cut sho')
            raise KeyboardInterrupt
        return real(folder, name, *arguments, **named)

    monkeypatch.setattr(proof, "_run_one", interrupted)
    with pytest.raises(InterruptError):
        proof.run(tmp_path, device="cpu", only=["predict fp32", "staging", "MPS"])
    told = outcomes(tmp_path)
    assert [one["state"] for one in told.values()] == ["passed", "cut"]
    assert told["staging"]["figures"] == {"part": {"value": 1}}


def test_a_check_that_means_nothing_there_ends_with_a_code_of_its_own(tmp_path, capsys):
    assert task.main(["device memory", "cpu", str(tmp_path), "small", str(tmp_path)]) == task.SKIPPED
    assert "for CUDA devices" in capsys.readouterr().err


@pytest.mark.slow
def test_a_check_runs_as_a_process(tmp_path):
    result = proof.run(tmp_path, device="cpu", small=True, only=["staging"])
    assert [(one.name, one.state) for one in result.outcomes] == [("staging", "passed")]
    assert result.outcomes[0].figures == {"staging": {"batches": 7}}
    assert "| staging | passed |" in (tmp_path / proof.REPORT).read_text()
