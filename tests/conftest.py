"""What every test shares: the command runner, and nothing that leaks from one test into the next."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from typer.testing import CliRunner, Result

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _logging_is_put_back() -> Iterator[None]:
    """Commands set up logging and warnings; other tests must not see it."""
    root, ours = logging.getLogger(), logging.getLogger("co2s_cli")
    before = root.handlers[:], root.level, ours.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


@pytest.fixture
def shared() -> Path:
    """The folder of golden values and real imagery beside the project; the test skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared here")
    return folder


@pytest.fixture
def co2s():
    """Run a command in this process: `co2s("predict", "scene.tif", …)` → exit code, stdout, stderr."""
    from co2s_cli.cli import app

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run
