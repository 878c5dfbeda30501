"""One map from one scene: begin or go on, do what is missing, put it together, tidy up."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from co2s_cli import __version__
from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import OutputError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.write import creation
from co2s_cli.inference import journal as journals
from co2s_cli.inference.assembly import assembly_cache, write_raster
from co2s_cli.inference.engine import Engine
from co2s_cli.inference.journal import Journal
from co2s_cli.inference.made import Made, Run, made_of
from co2s_cli.inference.parts import Parts
from co2s_cli.inference.products import Product
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.setup import Setup, Start
from co2s_cli.inference.share import Task, do_share, work_of
from co2s_cli.inference.sizing import Sizes, pick_sizes
from co2s_cli.inference.subject import Subject
from co2s_cli.inference.targets import Target
from co2s_cli.inference.workers import Helpers, Rank, helpers, wait_until
from co2s_cli.progress import Progress
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

KEY_TAG = "CO2S_KEY"

BAND = 512
"""Rows of a unit of work: the height of an output's blocks."""

Finish = Callable[[Target, Subject], None]
"""What is made of a map that is whole: polygons, a picture."""


class Mapper:
    """Makes maps of scenes with one model, which is read when the first map needs it."""

    def __init__(self, setup: Setup, product: Product, rank: Rank, progress: Progress) -> None:
        self._setup = setup
        self._settings: MapConfig = setup.settings
        self._product = product
        self._rank = rank
        self.progress = progress
        """Who watches."""
        self._creation = creation.parse(setup.settings.co)

    @property
    def product(self) -> Product:
        """What is made."""
        return self._product

    @property
    def workers(self) -> int:
        """Processes that share a scene."""
        return max(self._settings.workers or self._setup.devices, self._rank.count)

    def open(self, target: Target) -> Subject:
        """The scene, checked against model and settings; what a user should know of it is said."""
        subject = Subject.open(target.source, self._setup.manifest, self._settings)
        for remark in subject.remarks(self._setup.manifest):
            log.warning("%s", remark)
        return subject

    def make(self, target: Target, finish: Finish) -> Made:
        """One scene's map.

        Raises:
            Co2sError: what is wrong with scene, outputs or memory; finished parts stay for the next run.
        """
        settings = self._settings
        if not (settings.overwrite or settings.resume or journals.folder_of(target.out).exists()):
            target.check(overwrite=False)
        subject = self.open(target)
        if self._rank.index > 0:
            return self._follow(target, subject)
        with journals.locked(target.out) as folder:
            old = Journal.read(folder)
            start = self._setup.start(subject, self._product, old)
            if old is None and settings.resume and target.out.exists() and self._is_same(target, start):
                return self._already(target, subject, finish)
            if old is not None and old.key != start.key:
                self._drop(folder, old, start)
                old, start = None, self._setup.start(subject, self._product, None)
            if old is None:
                target.check(overwrite=settings.overwrite)
            run = self._begin(target, subject, folder, start, old)
            return self._go(run, finish, state="resumed" if old else "made")

    def plan(self, target: Target, subject: Subject) -> tuple[Start, Sizes]:
        """How a scene would be run; what would be refused is refused here, too."""
        if not (self._settings.overwrite or self._settings.resume or journals.folder_of(target.out).exists()):
            target.check(overwrite=False)
        start = self._setup.start(subject, self._product, None)
        return start, self._sizes(start.engine, subject)

    def _is_same(self, target: Target, start: Start) -> bool:
        """Whether a map that is whole is the one that would be made; if not, it must be allowed to go."""
        with reading(str(target.out)) as dataset:
            same = bool(dataset.tags().get(KEY_TAG) == start.key)
        if not same and not self._settings.overwrite:
            raise OutputError(
                f"{target.out}: is whole, but was made from something else or with other settings",
                hint="add --overwrite to make it anew, or choose another name",
            )
        return same

    def _already(self, target: Target, subject: Subject, finish: Finish) -> Made:
        """A map that is whole and the same: what is missing beside it is made of it."""
        rasters = {plane.name for plane in self._product.planes}
        missing = {name for name, path in target.beside.items() if not path.exists()}
        if rasters & missing:
            gone = " and ".join(sorted(rasters & missing))
            raise OutputError(f"{target.out}: is whole, but its {gone} is missing", hint="add --overwrite")
        beside = {name: path for name, path in target.beside.items() if name in rasters | missing}
        finish(replace(target, beside=beside), subject)
        return Made(target.source, target.outputs, "done")

    def _drop(self, folder: Path, old: Journal, start: Start) -> None:
        """Forget unfinished work with other settings, if that is wanted."""
        told = start.told.items()
        other = [f"{name} was {old.facts.get(name)}, is {now}" for name, now in told if old.facts.get(name) != now]
        if not self._settings.overwrite:
            raise OutputError(
                f"{folder}: unfinished work made otherwise ({'; '.join(other[:3]) or 'from another scene'})",
                hint="go on with the settings it was begun with, or add --overwrite to begin anew",
            )
        journals.clear(folder)

    def _begin(self, target: Target, subject: Subject, folder: Path, start: Start, old: Journal | None) -> Run:
        """Fit the work into memory, and write down how it is cut."""
        sizes = self._sizes(start.engine, subject)
        width = subject.lattice.plan.width
        keep = old is not None and (old.panel <= sizes.panel or sizes.panel >= width)
        fresh = Journal(start.facts, BAND, sizes.panel)
        journal = fresh if old is None else old if keep else replace(old, panel=sizes.panel)
        target.check_disk(disk_needed(subject, self._product))
        run = Run(target, subject, folder, start, sizes, journal)
        Parts(folder, self._product.planes).keep_only(run.units)
        journal.write(folder)
        return run

    def _sizes(self, engine: Engine, subject: Subject) -> Sizes:
        sizes = pick_sizes(
            engine,
            subject,
            self._product,
            limit=self._settings.mem_limit,
            device_limit=self._settings.device_mem,
            workers=self.workers,
        )
        if sizes.remark:
            log.warning("%s", sizes.remark)
        return sizes

    def _go(self, run: Run, finish: Finish, *, state: str) -> Made:
        """Do what is missing, write the rasters, tidy up."""
        began = time.perf_counter()
        pace = self._do_units(run)
        counts = self._write(run)
        seconds = time.perf_counter() - began
        finish(run.target, run.subject)
        made = made_of(run, pace, self._setup.manifest.class_map, counts, seconds=seconds, state=state)
        log.info("%s: %s in %.1f s (%.2f Mpx/s)", run.target.out, state, seconds, made.megapixels_per_second)
        journals.forget(run.folder)
        return made

    def _task(self, run: Run, todo: list[Window]) -> Task:
        return Task(
            source=run.target.source,
            settings=self._settings,
            product=self._product,
            model=self._setup.model,
            folder=run.folder,
            device=str(run.start.engine.device),
            precision=run.start.loaded.precision,
            batch=run.start.engine.batch,
            lanes=run.sizes.lanes,
            threads=run.sizes.threads,
            cache=run.sizes.cache,
            units=tuple(todo),
        )

    def _do_units(self, run: Run) -> Pace:
        """This process's share of what is missing, with helpers at its side or other ranks elsewhere."""
        parts = Parts(run.folder, self._product.planes)
        todo = [unit for unit in run.units if not parts.has(unit)]
        task = self._task(run, todo)
        work = work_of(task, run.start.loaded, run.subject)
        workers = min(self.workers, max(1, len(todo))) if self._rank.count == 1 else 1
        if self._rank.count > 1:
            own = self._rank.mine(run.units)
            mine = [unit for unit in todo if unit in own]
        else:
            mine = Rank(0, workers).mine(todo)
        self.progress.start("windows", work.windows(mine if workers == 1 else todo), "window")
        with helpers(do_share, task, workers) as others:
            pace = work.run(mine, lambda count, pace: self._tell(count, pace, others, run))
            if others:
                others.wait(self.progress.advance)
        if self._rank.count > 1:
            wait_until(lambda: all(parts.has(unit) for unit in todo))
        self.progress.close()
        return pace

    def _tell(self, count: int, pace: Pace, others: Helpers | None, run: Run) -> None:
        plan = run.subject.lattice.plan
        done = plan.height * plan.width * pace.read / len(plan) / 1e6 / max(pace.seconds, 1e-9)
        facts = {"Mpx/s": f"{done:.2f}", "waited": f"{pace.waited / max(pace.seconds, 1e-9):.0%}"}
        self.progress.advance(count + (others.news() if others else 0), **facts)

    def _write(self, run: Run) -> NDArray[np.int64]:
        """All rasters, the map last: once it is there, all is."""
        parts = Parts(run.folder, self._product.planes)
        scene = run.subject.scene
        wanted = [plane for plane in self._product.planes if plane.name in run.target.outputs]
        self.progress.start("writing", scene.original.height * len(wanted), "row")
        counts = np.zeros(256, np.int64)
        for plane in reversed(wanted):
            with environment(assembly_cache(scene.original.width, plane, run.sizes.limit)):
                found = write_raster(
                    run.target.outputs[plane.name],
                    plane,
                    parts=parts,
                    units=run.units,
                    subject=run.subject,
                    classes=self._setup.manifest.class_map,
                    tags=self._tags(run.start),
                    creation=self._creation,
                    step=self.progress.advance,
                )
            counts = found if plane.kind == "class" else counts
        self.progress.close()
        return counts

    def _tags(self, start: Start) -> dict[str, str]:
        """What a raster says about how it was made: only what decides its pixels."""
        return {
            "CO2S_VERSION": __version__,
            "CO2S_MODEL": start.loaded.digest,
            "CO2S_SETTINGS": json.dumps(start.told, sort_keys=True),
            KEY_TAG: start.key,
        }

    def _follow(self, target: Target, subject: Subject) -> Made:
        """A rank above 0: do the share of what the first rank began, unless that finds the map whole."""
        folder, fresh = journals.folder_of(target.out), self._setup.start(subject, self._product, None)

        def begun() -> tuple[Journal | None] | None:
            journal = Journal.read(folder)
            if journal is not None:
                return (journal,) if self._setup.start(subject, self._product, journal).key == journal.key else None
            whole = self._settings.resume and target.out.exists() and self._is_same(target, fresh)
            return (None,) if whole else None

        (journal,) = wait_until(begun)
        if journal is None:
            return Made(target.source, target.outputs, "done")
        start = self._setup.start(subject, self._product, journal)
        run = Run(target, subject, folder, start, self._sizes(start.engine, subject), journal)
        parts = Parts(folder, self._product.planes)
        mine = [unit for unit in self._rank.mine(run.units) if not parts.has(unit)]
        pace = work_of(self._task(run, mine), start.loaded, subject).run(mine)
        classes, none = self._setup.manifest.class_map, np.zeros(256, np.int64)
        return made_of(run, pace, classes, none, seconds=pace.seconds, state="made")


def disk_needed(subject: Subject, product: Product) -> int:
    """Bytes on disk at most: parts, rows and the finished raster with its overviews, were nothing to shrink."""
    scene = subject.scene
    planes = sum(plane.pixel_bytes for plane in product.planes)
    here, there = scene.height * scene.width, scene.original.height * scene.original.width
    return planes * (here + there + there * 4 // 3)
