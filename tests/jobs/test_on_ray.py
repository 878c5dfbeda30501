"""Maps on a real Ray cluster of two nodes: the bytes of one process, whatever dies meanwhile."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from support.cluster import deadly_context
from support.models import save_tiny
from support.rasters import noise, write_raster

from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.errors import ResourceError
from co2s_cli.inference.targets import targets_of
from co2s_cli.jobs import on_ray, predict, pseudo_label

pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and processes to the collector, and warns of its own future
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    """A node with one core, whose address is `cluster.address`; tests add another one."""
    before = dict(os.environ)
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0", PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}", OMP_NUM_THREADS="1"
    )
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.second = made.add_node(**{**node, "num_cpus": 1})
    yield made
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors", students=("dino",))


@pytest.fixture(scope="module")
def tall(tmp_path_factory):
    """A scene of many units that takes a process seconds."""
    return write_raster(tmp_path_factory.mktemp("tall") / "tall.tif", noise((3, 20_000, 60)))


@pytest.fixture(scope="module")
def expected(tmp_path_factory, model, tall):
    """The map of one process."""
    out = tmp_path_factory.mktemp("expected") / "map.tif"
    predict.run(settings(tall, out, model))
    return out.read_bytes()


def settings(scene, out, model, **others):
    scenes = [str(one) for one in scene] if isinstance(scene, list) else [str(scene)]
    base = {"scenes": scenes, "out": out, "model": model, "precision": "fp32", "device": "cpu"}
    return load(PredictConfig, None, {**base, **others})


def command(scene, out, model, *flags):
    line = [sys.executable, "-m", "co2s_cli", "predict", scene, "-o", out, "-m", model, "--precision", "fp32"]
    return [str(word) for word in [*line, "--device", "cpu", "--engine", "ray", *flags]]


def parts(out):
    return len(list(Path(f"{out}.parts").glob("*.tif")))


def when(condition, act, seconds=120):
    """Act in a thread as soon as the condition holds."""

    def wait():
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def actors():
    """Processes of actors that are at work, of clusters that this process has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::MapWorker"):
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_an_actor_that_is_killed_changes_nothing(tmp_path, cluster, model, tall, expected, caplog):
    out = tmp_path / "map.tif"
    killed = []

    def kill():
        killed.append(actors()[0])
        killed[0].kill()

    thread = when(lambda: parts(out) >= 1, kill)
    with caplog.at_level(logging.INFO):
        result = predict.run(settings(tall, out, model, engine="ray", address=cluster.address, workers=2))
    thread.join()
    assert out.read_bytes() == expected
    loss = f"process {killed[0].pid})"  # not told where the map was whole before anybody missed the worker
    assert loss not in caplog.text or f"{loss} while it worked on {tall}; its work is repeated" in caplog.text
    assert result.maps[0].state == "made"
    assert sum(result.maps[0].pixels.values()) == 20_000 * 60
    assert not Path(f"{out}.parts").exists()


def test_a_driver_that_is_killed_goes_on_with_what_is_missing(tmp_path, cluster, model, tall, expected):
    out = tmp_path / "map.tif"
    line = command(tall, out, model, "--address", cluster.address, "--workers", "2")
    driver = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    when(lambda: parts(out) >= 5, driver.kill).join()
    driver.communicate()
    while actors():
        time.sleep(0.1)
    before = {path.name: path.stat().st_mtime_ns for path in Path(f"{out}.parts").glob("*.tif")}
    assert before
    assert not out.exists()
    again = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    after = {}
    while again.poll() is None:
        time.sleep(0.02)
        with contextlib.suppress(FileNotFoundError):  # they go in the end
            after |= {path.name: path.stat().st_mtime_ns for path in Path(f"{out}.parts").glob("*.tif")}
    stdout, stderr = again.communicate()
    assert (again.returncode, stdout) == (0, f"{out}\n"), stderr
    assert "resumed" in stderr
    assert {name: after.get(name) for name in before} == before
    assert out.read_bytes() == expected


def test_a_scene_that_takes_three_actors_down_is_put_aside(tmp_path, cluster, model, caplog):
    deadly = write_raster(tmp_path / "deadly.tif", noise((3, 40, 40)))
    mild = write_raster(tmp_path / "mild.tif", noise((3, 40, 40)))
    folder = tmp_path / "maps"
    folder.mkdir()
    config = settings([deadly, mild], folder, model, engine="ray", address=cluster.address, workers=1)
    targets = targets_of(config.scenes, folder, {})
    made, failed = on_ray.make_maps(deadly_context, config, targets, predict.SILENT, single_scene=False)
    assert [result.source for result in made] == [str(mild)]
    assert [(failure.source, failure.exit_code) for failure in failed] == [(str(deadly), 7)]
    assert "3 worker processes have ended" in failed[0].message


def test_sigterm_ends_within_seconds_and_keeps_parts(tmp_path, cluster, model, tall):
    out = tmp_path / "map.tif"
    line = command(tall, out, model, "--address", cluster.address, "--workers", "1")
    driver = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    when(lambda: parts(out) >= 2, lambda: None).join()
    began = time.monotonic()
    driver.send_signal(signal.SIGTERM)
    stdout, stderr = driver.communicate()
    assert (driver.returncode, stdout) == (143, ""), stderr
    assert time.monotonic() - began < 5
    assert "run the same command again to continue" in stderr
    assert parts(out) >= 2


def test_a_node_that_is_removed_changes_nothing(tmp_path, cluster, model, tall, expected):
    out = tmp_path / "map.tif"
    thread = when(lambda: parts(out) >= 3, lambda: cluster.remove_node(cluster.second, allow_graceful=False))
    predict.run(settings(tall, out, model, engine="ray", address=cluster.address, workers=2))
    thread.join()
    assert out.read_bytes() == expected
    assert len(list(cluster.list_all_nodes())) == 1


def test_candidates_of_several_scenes_are_those_of_one_process(tmp_path, cluster, model):
    scenes = [write_raster(tmp_path / f"{name}.tif", noise((3, 90, 70), seed=ord(name))) for name in "abc"]
    flags = {"scenes": [str(scene) for scene in scenes], "model": model, "precision": "fp32", "device": "cpu"}
    one, other = (load(PseudoLabelConfig, None, {**flags, "out": tmp_path / name}) for name in ("one", "other"))
    pseudo_label.run(one)
    done = pseudo_label.run(other.model_copy(update={"engine": "ray", "address": cluster.address, "workers": 2}))
    assert [made.source for made in done.made] == [str(scene) for scene in scenes]
    for path in sorted(one.out.rglob("*.tif")):
        assert path.read_bytes() == (other.out / path.relative_to(one.out)).read_bytes()


def test_an_address_where_nobody_answers_is_one_line(tmp_path, model, tall):
    with pytest.raises(ResourceError, match="no Ray cluster can be reached") as caught:
        predict.run(settings(tall, tmp_path / "map.tif", model, engine="ray", address="127.0.0.1:9"))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("machines", "workers", "told"),
    [
        ([{"CPU": 4.0, "GPU": 1.0}] * 8, 2, ("GPU", 2, 4)),
        ([{"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0}], None, ("GPU", 1, 4)),
        ([{"CPU": 96.0, "GPU": 8.0}], None, ("GPU", 8, 8)),
        ([{"CPU": 3.0}], None, ("CPU", 3, 1)),
    ],
)
def test_a_seat_fits_on_a_machine(machines, workers, told):
    cluster = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": machine} for machine in machines])
    kind, count, share = on_ray._plan_actors(cluster, SimpleNamespace(device="auto", workers=workers))
    assert (kind, count, share.cores) == told
