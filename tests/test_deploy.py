"""The files for clusters are read by what would read them, as far as one machine has that."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from co2s_cli.cli import app
from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig

DEPLOY = Path(__file__).parents[1] / "deploy"
SBATCH = DEPLOY / "shares.sbatch"
JOB = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


def parsed(line):
    """The settings of a command line of co2s predict, read by the command line itself."""
    words = shlex.split(line)
    assert words[:2] == ["co2s", "predict"]
    context = typer.main.get_command(app).commands["predict"].make_context("predict", words[2:])
    flags = {name: value for name, value in context.params.items() if name in PredictConfig.model_fields and value}
    return load(PredictConfig, None, flags), context.params["log"]


def test_the_job_of_kuberay_is_a_command_that_goes_on():
    settings, log = parsed(JOB["spec"]["entrypoint"])
    assert (settings.engine, settings.address, settings.resume, log) == ("ray", "auto", True, "json")


def test_all_pods_mount_what_the_command_names_and_run_as_nobody_special():
    cluster = JOB["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert container["volumeMounts"] == [{"name": pod["volumes"][0]["name"], "mountPath": "/data"}]


def test_the_array_of_slurm_has_as_many_tasks_as_shares():
    text = SBATCH.read_text()
    settings, log = parsed(re.search(r"^exec (.*)$", text, re.MULTILINE)[1])
    assert (settings.resume, log) == (True, "json")
    assert f"--array=0-{settings.shard.count - 1}\n" in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_array_of_slurm_is_a_script():
    subprocess.run(["bash", "-n", SBATCH], check=True)


def test_the_image_does_not_run_as_root_and_copies_what_is_there():
    text = (DEPLOY / "Dockerfile").read_text()
    assert text.index("USER co2s") < text.index("ENTRYPOINT")
    for names in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((DEPLOY.parent / name).exists() for name in names.split())
