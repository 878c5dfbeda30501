"""What flags and file headers tell is refused without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from co2s_cli.locks import only_writer

SCRIPT = """
import json, sys
class NoTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise SystemExit("torch was imported")
sys.meta_path.insert(0, NoTorch())
from typer.testing import CliRunner
from co2s_cli.cli import app
results = [CliRunner().invoke(app, command.split()) for command in sys.argv[1:]]
print(json.dumps([(result.exit_code, result.stderr + str(result.exception or "")) for result in results]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, bands in (("scene.tif", 3), ("eleven.tif", 11)):
        profile = {"driver": "GTiff", "width": 64, "height": 64, "count": bands, "dtype": "uint8", "crs": "EPSG:32632"}
        with rasterio.open(name, "w", transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6), **profile) as file:
            file.write(np.ones((bands, 64, 64), np.uint8))
    for name in ("map.tif", "broken.tif", "broken.safetensors"):
        Path(name).write_bytes(b"nothing")
    for name in ("run", "candidates", "mine"):
        Path(name).mkdir()
    Path("mine/report.md").write_text("mine")
    Path("candidates/scene.tif").write_bytes(Path("scene.tif").read_bytes())
    Path("run/config.yaml").write_text("seed: 1\n")
    good = {"classes": ["a", "b"], "labeled": [{"image": "scene.tif", "labels": "scene.tif"}]}
    changes = {
        "good": {},
        "no-image": {"labeled": [{"image": "gone.tif", "labels": "scene.tif"}]},
        "no-labels": {"labeled": [{"image": "scene.tif", "labels": "gone.gpkg"}]},
        "key": {"lables": []},
    }
    for name, change in changes.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**good, **change}))
    return tmp_path


CASES = [
    ("train good.yaml --preset tiny --out used", 4, "used: another process is writing it"),
    ("pseudo-label scene.tif --out used", 4, "used: another process is writing it"),
    ("predict scene.tif --out a.tif --aoi gone.gpkg", 3, "gone.gpkg: no such file"),
    ("train good.yaml --preset tiny --out mine", 4, "mine/report.md: is there, but no config.yaml of a run"),
    ("predict gone.tif --out a.tif", 3, "gone.tif: no such file"),
    ("predict broken.tif --out a.tif", 3, "broken.tif"),
    ("predict scene.tif --out map.tif --tile 3", 2, "--tile"),
    ("predict scene.tif --out map.jpg", 2, "ends in .tif"),
    ("predict scene.tif --out map.tif", 4, "map.tif: exists"),
    ("predict scene.tif --out scene.tif --overwrite", 2, "would overwrite an input of this command"),
    ("predict eleven.tif --out a.tif", 3, "11 bands"),
    ("predict scene.tif --out a.tif --bands 1,9,2", 3, "9"),
    ("predict scene.tif --out a.tif --model gone.safetensors", 3, "no such model file"),
    ("predict scene.tif --out a.tif --model broken.safetensors", 5, "not a co2s model file"),
    ("pseudo-label gone.tif --out round", 3, "gone.tif: no such file"),
    ("pseudo-label candidates/scene.tif --out . --overwrite", 2, "would overwrite an input of this command"),
    ("pseudo-label scene.tif --out round --threshold-per-class gone=0.9", 2, "gone: no class of the model"),
    ("pseudo-label scene.tif --out round --truth gone.gpkg", 3, "no such label file"),
    ("train no.yaml --preset tiny", 3, "no.yaml: no such file"),
    ("train key.yaml --preset tiny", 2, "lables: no such setting"),
    ("train no-image.yaml --preset tiny", 3, "gone.tif: no such file"),
    ("train no-labels.yaml --preset tiny", 3, "gone.gpkg: no such file"),
    ("train good.yaml --preset tiny --out run", 4, "run: holds a run already"),
    ("train good.yaml --preset tiny --init gone.safetensors", 3, "no such model file"),
    ("distill good.yaml --teacher gone.safetensors", 3, "no such model file"),
    ("evaluate good.yaml --model gone.safetensors", 3, "no such model file"),
    ("evaluate gone.tif gone.gpkg", 3, "no such"),
    ("export broken.safetensors --onnx a.onnx", 5, "not a co2s model file"),
    ("export broken.safetensors --onnx map.tif", 4, "map.tif: exists"),
    ("import gone.pth --dataset loveda --out a.safetensors", 3, "gone.pth: no such file"),
    ("import broken.tif --dataset nothing --out a.safetensors", 2, "nothing"),
    ("import broken.tif --dataset loveda --out a.tif", 2, "a model file is named *.safetensors"),
    ("vectorize gone.tif --out a.gpkg", 3, "gone.tif: no such file"),
    ("vectorize scene.tif --out a.gpkg", 3, "one band"),
    ("info gone.tif", 3, "gone.tif: no such file"),
    ("info broken.safetensors", 5, "not a co2s model file"),
    ("sample run --size -1", 2, "--size"),
]


@pytest.mark.slow
def test_torch_is_not_imported_to_refuse(folder):
    commands = [command for command, _, _ in CASES]
    with only_writer(folder / "used"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, *commands], capture_output=True, text=True, check=True)
    for (command, code, words), (found, errors) in zip(CASES, json.loads(done.stdout), strict=True):
        assert (found, errors.count("error: ")) == (code, 1), (command, errors)
        assert words in " ".join(errors.split()), (command, errors)
