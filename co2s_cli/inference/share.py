"""The share of one scene that a helper process or a rank does: everything it needs fits into a message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from co2s_cli.config.mapping import MapConfig
from co2s_cli.inference.engine import Engine
from co2s_cli.inference.journal import Journal
from co2s_cli.inference.loading import Loaded, load_model
from co2s_cli.inference.parts import Parts
from co2s_cli.inference.precision import Precision
from co2s_cli.inference.products import Product
from co2s_cli.inference.subject import Subject
from co2s_cli.inference.work import Work
from co2s_cli.inference.workers import Rank
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A scene, and how its units are done."""

    source: str
    settings: MapConfig
    product: Product
    model: Path
    folder: Path
    """Where journal and parts lie."""
    device: str
    precision: Precision
    batch: int
    lanes: int
    threads: int
    cache: int
    units: tuple[Window, ...]
    """What is to be done, by all together."""


def do_share(task: Task, rank: Rank, step: Callable[[int], None]) -> None:
    """Do a rank's share of a task in this process, from the model file on."""
    device = torch.device(task.device)
    if device.type == "cuda":
        device = torch.device("cuda", rank.local % torch.cuda.device_count())
    loaded = load_model(task.model, task.settings, device, task.precision)
    subject = Subject.open(task.source, loaded.manifest, task.settings)
    work_of(task, loaded, subject).run(rank.mine(task.units), lambda count, _: step(count))


def work_of(task: Task, loaded: Loaded, subject: Subject) -> Work:
    """The work of a task with the model and the scene at hand."""
    return Work(
        subject=subject,
        engine=engine_of(loaded, subject, task.product, task.batch, note=lambda text: note(task.folder, text)),
        product=task.product,
        parts=Parts(task.folder, task.product.planes),
        lanes=task.lanes,
        threads=task.threads,
        cache=task.cache,
    )


def engine_of(
    loaded: Loaded, subject: Subject, product: Product, batch: int, note: Callable[[str], None] = lambda _: None
) -> Engine:
    """The model for one scene and product."""
    return Engine(
        loaded.members,
        product,
        scaling=subject.scaling,
        device=loaded.device,
        precision=loaded.precision,
        batch=batch,
        note=note,
    )


def note(folder: Path, text: str) -> None:
    """Keep in the journal what may have changed last bits, and say it."""
    log.warning("%s", text)
    journal = Journal.read(folder)
    if journal is not None:
        journal.noted(text).write(folder)
