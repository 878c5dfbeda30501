"""Maps in steps by several workers, without any cluster: the bytes of one process, whatever is lost on the way."""

import logging
import threading
from contextlib import ExitStack
from dataclasses import replace

import pytest
from support.models import save_tiny
from support.rasters import noise, write_raster

from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig
from co2s_cli.errors import InputError, InUseError, OutputError, PartialError
from co2s_cli.inference import map_setup, mapping
from co2s_cli.inference.mapping import MapResult
from co2s_cli.inference.store import Parts, folder_of, locked
from co2s_cli.inference.targets import Target, targets_of
from co2s_cli.jobs import map_worker, predict
from co2s_cli.jobs.map_worker import MapWorker, WorkerFacts, WorkerSetup
from co2s_cli.jobs.scene_tasks import MOST_LOST, SceneTasks
from co2s_cli.resources import MachineShare

pytestmark = pytest.mark.slow  # whole maps, a second each

REAL_MEMORY = map_setup.plan_memory


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors", students=("dino",))


@pytest.fixture
def settings(tmp_path, model):
    """Of a scene of three panels and five bands, which is cut in the same way wherever it runs."""
    scene = write_raster(tmp_path / "scene.tif", noise((3, 290, 230)), tiled=True, blockxsize=64, blockysize=64)
    flags = {"scenes": [str(scene)], "out": tmp_path / "map.tif", "model": model, "precision": "fp32", "device": "cpu"}
    return load(PredictConfig, None, flags)


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
    monkeypatch.setattr(mapping, "BAND", 64)
    monkeypatch.setattr(map_setup, "plan_memory", lambda *a, **k: replace(REAL_MEMORY(*a, **k), panel=100))


def worker(settings, tmp_path):
    made = MapWorker(WorkerSetup(predict.context_of, settings, MachineShare(1, 2), tmp_path, 0))
    assert isinstance(made.check(), WorkerFacts)
    return made


def tasks_of(settings, workers=4):
    return SceneTasks(settings, targets_of(settings.scenes, settings.out, settings.extra_outputs()), workers=workers)


def answer(worker, task, tasks):
    if task.kind == "make":
        return worker.make(task.target, task.lost > 0)
    if task.kind == "begin":
        return worker.begin(task.target)
    scene = tasks.split_scene(task)
    if task.kind == "compute":
        return worker.compute(scene.plan.job, task.units)
    return worker.write(scene.plan.job, scene.pace, 1.0, scene.plan.resumed)


def work(tasks, workers, lose=lambda task: False):
    """Give tasks to the workers in turn; those that `lose` picks are done, but their answers are lost."""
    done = []
    while tasks.scenes_left:
        task = tasks.take()
        result = answer(workers[len(done) % len(workers)], task, tasks)
        done.append(task)
        if lose(task):
            tasks.lost(task, guilty=True)
        else:
            tasks.finished(task, result)
    return done


def test_a_map_made_in_steps_is_that_of_one_process(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = predict.run(settings).maps[0]
    before = settings.out.read_bytes()
    settings.out.unlink()
    tasks = tasks_of(settings)
    done = work(tasks, [worker(settings, tmp_path), worker(settings, tmp_path)])
    assert settings.out.read_bytes() == before
    assert [task.kind for task in done] == ["begin", *["compute"] * (len(done) - 2), "write"]
    assert len(done) > 5
    assert tasks.maps[0].pixels == one.pixels
    assert not folder_of(settings.out).exists()


def test_lost_answers_change_nothing_and_stored_units_are_not_computed_again(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predict.run(settings)
    before = settings.out.read_bytes()
    settings.out.unlink()
    written, write = [], Parts.write
    monkeypatch.setattr(Parts, "write", lambda parts, unit, planes: (written.append(unit), write(parts, unit, planes)))
    done = work(tasks_of(settings), [worker(settings, tmp_path)], lose=lambda task: task.lost == 0)
    assert settings.out.read_bytes() == before
    assert [task.lost for task in done].count(1) == len(done) / 2
    assert len(written) == len(set(written)) == 15


def test_a_map_that_was_made_by_a_worker_that_is_lost_is_done(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = tasks_of(settings, workers=1)
    work(tasks, [worker(settings, tmp_path)], lose=lambda task: task.lost == 0)
    assert [made.state for made in tasks.maps] == ["done"]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_task_that_takes_three_workers_down_gives_its_scene_up(tmp_path, settings, monkeypatch, workers):
    monkeypatch.chdir(tmp_path)
    tasks = tasks_of(settings, workers)
    done = work(tasks, [worker(settings, tmp_path)], lose=lambda task: task.kind in ("make", "compute"))
    assert done[-1].lost == MOST_LOST - 1
    (error,) = tasks.errors
    assert isinstance(error, PartialError)
    assert "given up, 3 worker processes" in error.message
    assert tasks.failed[0].exit_code == 7
    with locked(settings.out):  # released
        pass


def test_work_that_only_waited_behind_the_guilty_is_not_blamed(settings):
    tasks = tasks_of(settings, workers=1)
    task = tasks.take()
    for _ in range(MOST_LOST + 1):
        tasks.lost(task, guilty=False)
        task = tasks.take()
    assert task.lost == 0
    assert not tasks.errors


def test_runs_are_of_one_panel_and_shorter_towards_the_end(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = tasks_of(settings, workers=2)
    done = work(tasks, [worker(settings, tmp_path)])
    runs = [task.units for task in done if task.kind == "compute"]
    assert all(len({unit.col for unit in run}) == 1 for run in runs)
    assert [len(run) for run in runs] == sorted((len(run) for run in runs), reverse=True)
    assert sum(map(len, runs)) == 15


def test_a_scene_that_fails_does_not_stop_the_others_and_lets_its_output_go(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = targets_of(settings.scenes, settings.out, {})[0]
    bad = Target(str(tmp_path / "none.tif"), tmp_path / "none-map.tif")
    tasks = SceneTasks(settings, [bad, target], workers=3)
    work(tasks, [worker(settings, tmp_path)])
    assert isinstance(tasks.errors[0], InputError)
    assert isinstance(tasks.maps[0], MapResult)
    assert not folder_of(bad.out).exists()


def test_a_lost_task_of_a_scene_that_has_failed_since_is_not_handed_out_again(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks, one = tasks_of(settings, workers=3), worker(settings, tmp_path)
    begin = tasks.take()
    tasks.finished(begin, answer(one, begin, tasks))
    first, second = tasks.take(), tasks.take()
    tasks.lost(first, guilty=False)
    tasks.finished(second, OutputError("disk full"))
    assert tasks.take() is None
    assert tasks.scenes_left == 0


def test_a_machine_that_does_not_share_the_folder_says_so(tmp_path, settings):
    told = worker(settings, tmp_path).begin(Target(settings.scenes[0], tmp_path / "elsewhere" / "map.tif"))
    assert isinstance(told, InputError)
    assert "elsewhere/map.tif.parts: is not on " in told.message


def test_an_output_that_another_process_writes_is_refused(settings):
    tasks = tasks_of(settings)
    with locked(settings.out):
        assert tasks.take() is None
    assert isinstance(tasks.errors[0], OutputError)


def test_the_lock_of_a_lost_worker_is_waited_for(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(map_worker, "LOCK_SECONDS", 0.1)
    target, made = targets_of(settings.scenes, settings.out, {})[0], worker(settings, tmp_path)
    with locked(settings.out):
        assert isinstance(made.make(target, False), InUseError)
    lock = ExitStack()
    lock.enter_context(locked(settings.out))
    release = threading.Timer(0.5, lock.close)
    release.start()
    assert made.make(target, True).state == "made"
    release.join()


def test_a_threshold_of_malloc_is_told(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert any("doubles the time of a map" in text for _, text in worker(settings, tmp_path).news().lines)


def test_what_a_worker_logs_is_news(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = worker(settings, tmp_path)
    with locked(settings.out):
        made.begin(targets_of(settings.scenes, settings.out, {})[0])
    news = made.news()
    assert (logging.INFO, "running on cpu in fp32") in news.lines
    assert made.news().lines == []


def test_a_worker_without_the_folder_of_the_driver_says_so(tmp_path, settings):
    told = MapWorker(WorkerSetup(predict.context_of, settings, MachineShare(), tmp_path / "none", 0)).check()
    assert isinstance(told, InputError)
    assert "is not on this machine" in told.message


def test_workers_of_another_kind_say_why():
    one = WorkerFacts("a", 1, "1.0", "cuda", "bf16")
    assert one.differs(replace(one, host="b", process=2)) is None
    assert one.differs(replace(one, device="cpu")) == "its device is cuda, that of a cpu"
    assert one.differs(replace(one, precision="fp32")) == "its precision is bf16, that of a fp32"
