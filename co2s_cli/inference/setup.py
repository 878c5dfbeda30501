"""The model and how it runs, settled for a scene: what the settings leave open comes from the journal, else by rule."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from co2s_cli import __version__
from co2s_cli.config.mapping import MapConfig
from co2s_cli.inference.engine import Engine
from co2s_cli.inference.journal import Journal, key_of
from co2s_cli.inference.loading import Loaded, load_model
from co2s_cli.inference.precision import Precision, pick_device, pick_precision
from co2s_cli.inference.products import Product
from co2s_cli.inference.share import engine_of
from co2s_cli.inference.sizing import pick_batch
from co2s_cli.inference.subject import Subject
from co2s_cli.inference.workers import Rank
from co2s_cli.models.manifest import Manifest

log = logging.getLogger(__name__)

_PRIVATE = ("scene", "validity", "area")
"""Facts that are digests or spell out where a file lies: nothing to show."""


@dataclass(frozen=True, slots=True)
class Start:
    """All that decides the pixels of a scene's map, and the engine that makes them."""

    facts: dict[str, Any]
    loaded: Loaded
    engine: Engine

    @property
    def key(self) -> str:
        """The digest of the facts."""
        return key_of(self.facts)

    @property
    def told(self) -> dict[str, Any]:
        """The facts that mean something to a reader."""
        return {name: value for name, value in self.facts.items() if name not in _PRIVATE}


class Setup:
    """One model under one set of settings; read from its file when it is first wanted."""

    def __init__(self, settings: MapConfig, model: Path, manifest: Manifest, rank: Rank) -> None:
        self.settings = settings
        self.model = model
        self.manifest = manifest
        self._device = pick_device(settings.device, rank.local)
        self._loaded: Loaded | None = None

    @property
    def devices(self) -> int:
        """How many processes are worth their while where nothing is said: one for each GPU, if none is named."""
        any_gpu = self.settings.device in ("auto", "cuda") and self._device.type == "cuda"
        return torch.cuda.device_count() if any_gpu else 1

    def start(self, subject: Subject, product: Product, old: Journal | None) -> Start:
        """How a scene is run: settings first, then what the journal of unfinished work says, then the rules."""
        before = old.facts if old and old.facts.get("device") == self._device.type else {}
        wanted = self.settings.precision
        precision = before.get("precision", wanted) if wanted == "auto" else wanted
        loaded = self._load(pick_precision(precision, self._device))
        batch = self.settings.batch or before.get("batch")
        if batch is None:
            batch = pick_batch(engine_of(loaded, subject, product, 1), subject)
        engine = engine_of(loaded, subject, product, int(batch))
        return Start(self._facts(subject, product, loaded, engine), loaded, engine)

    def _load(self, precision: Precision) -> Loaded:
        if self._loaded is None or self._loaded.precision != precision:
            log.info("running on %s in %s", self._device, precision)
            self._loaded = load_model(self.model, self.settings, self._device, precision)
        return self._loaded

    def _facts(self, subject: Subject, product: Product, loaded: Loaded, engine: Engine) -> dict[str, Any]:
        return {
            "version": __version__,
            "model": loaded.digest,
            **subject.facts(),
            "product": repr(product),
            "tta": self.settings.tta,
            "device": self._device.type,
            "precision": loaded.precision,
            "batch": engine.batch,
            "threads": 1,
            "compile": self.settings.compile,
        }
