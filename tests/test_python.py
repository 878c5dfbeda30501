"""The functions of the package do what their commands do; the examples of their page and the notebook run."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from support.models import save_tiny
from support.rasters import noise, write_raster

import co2s_cli
from co2s_cli.errors import PartialError

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "python.md").read_text()
NOTEBOOK = DOCS / "first_map.ipynb"


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise((3, 64, 64), seed=1), crs="EPSG:32632")


def test_all_names_are_there_and_no_others():
    assert all(hasattr(co2s_cli, name) for name in co2s_cli.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'predcit'"):
        _ = co2s_cli.predcit


def test_a_map_is_that_of_the_command(co2s, tmp_path, scene):
    model, settings = save_tiny(tmp_path / "tiny.safetensors"), {"tile": 32, "precision": "fp32"}
    result = co2s_cli.predict(scene, tmp_path / "a.tif", model=model, confidence=tmp_path / "sure.tif", **settings)
    assert result.maps[0].outputs["confidence"] == tmp_path / "sure.tif"
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    assert co2s("predict", scene, "--out", tmp_path / "b.tif", "--model", model, *words).exit_code == 0
    names = (tmp_path / "a.tif", tmp_path / "b.tif")
    first, second = (co2s_cli.Scene.open(str(path)) for path in names)
    window = co2s_cli.Window(0, 0, 64, 64)
    with first.reader() as one, second.reader() as other:
        assert (one.read(window).pixels == other.read(window).pixels).all()
    with pytest.raises(co2s_cli.Co2sError, match="exists"):
        co2s_cli.predict(scene, tmp_path / "a.tif", model=model)

    (tmp_path / "maps").mkdir()
    with pytest.raises(PartialError, match="1 of 2 scenes failed"):
        co2s_cli.predict([scene, tmp_path / "none.tif"], tmp_path / "maps", model=model, **settings)
    assert (tmp_path / "maps" / "scene.tif").exists()


@pytest.mark.parametrize("call", [co2s_cli.predict, co2s_cli.train, co2s_cli.vectorize])
def test_a_setting_that_is_none_is_refused_by_name(call, tmp_path):
    with pytest.raises(co2s_cli.Co2sError, match=r"overwirte.*overwrite"):
        call(tmp_path / "scene.tif", tmp_path / "out", overwirte=True)


@pytest.mark.slow
def test_the_examples_of_the_page_run_in_their_order(co2s, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^co2s (.+)$", PAGE, re.MULTILINE)
    assert co2s(*shlex.split(command)).exit_code == 0
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "map.tif True\n" in printed
    assert re.search(r"^vegetation: \d+ polygons, \d+\.\d+ ha$", printed, re.MULTILINE)
    assert "20 final.safetensors" in printed
    assert "512 512 EPSG:326" in printed
    assert "(3, 128, 128) True" in printed
    assert re.search(r"overlp.*overlap.* 2$", printed, re.MULTILINE)
    before = (tmp_path / "runs" / "mine" / "final.safetensors").stat().st_mtime_ns
    again = co2s_cli.train("", tmp_path / "runs" / "mine", resume=True)
    assert (again.step, again.model.stat().st_mtime_ns) == (names["run"].step, before)


def test_the_notebook_has_neither_outputs_nor_places():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not re.search(r"/home|/work|/tmp|C:", NOTEBOOK.read_text())


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    kernels = tmp_path / "jupyter" / "kernels" / "this"
    kernels.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "this", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, kernel_name="this", timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert any("image/png" in output.get("data", {}) for output in last.outputs)
