"""The wheel holds the whole package and nothing else, and works installed, from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import rasterio

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
RIO = "from rasterio.rio.main import main_group; main_group(prog_name='rio')"

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path, path: Path | None = None) -> str:
    """What this Python prints; of our package it knows what lies in `path` alone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of a copy, so that nothing is left beside the sources."""
    pytest.importorskip("setuptools", "77")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "co2s_cli", source / "co2s_cli", ignore=shutil.ignore_patterns("__pycache__"))
    run("-c", BUILD, source / "out", cwd=source)
    return next((source / "out").glob("*.whl"))


def test_it_holds_every_file_of_the_package_and_no_other(wheel):
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "co2s_cli").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name for name in package if "__pycache__" not in name}
    assert {"co2s_cli/py.typed", "co2s_cli/assets/demo.safetensors", "co2s_cli/pages/page.js"} <= names


def test_installed_it_maps_with_its_own_model_from_any_folder(wheel, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(ROOT / "sample_data" / "scene.tif", elsewhere / "scene.tif")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", target)
    run(*pip, wheel, cwd=tmp_path)
    where = run("-c", "import co2s_cli; print(co2s_cli.__file__)", cwd=elsewhere, path=target)
    assert Path(where.strip()).is_relative_to(target)
    words = ("predict", "scene.tif", "--bounds", corner(elsewhere / "scene.tif"), "--out", "map.tif")
    assert run("-m", "co2s_cli", *words, cwd=elsewhere, path=target) == "map.tif\n"
    assert (elsewhere / "map.tif").stat().st_size > 1000
    assert run("-c", RIO, "co2s", "--version", cwd=elsewhere, path=target).startswith("co2s ")


def corner(path: Path) -> str:
    """Bounds of a part of the scene that takes a second."""
    with rasterio.open(path) as scene:
        (west, _, _, north), side = scene.bounds, 256 * scene.res[0]
    return f"{west},{north - side},{west + side},{north}"
