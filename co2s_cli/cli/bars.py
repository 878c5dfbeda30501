"""Progress on stderr: a bar where a person looks, never with `-q`; or lines of JSON for whoever gathers them."""

import json
import logging
import socket
import sys
import time
from functools import partial

from tqdm import tqdm

from co2s_cli import log
from co2s_cli.progress import SILENT, Progress

LINE_SECONDS = 30.0


class Bar:
    """One tqdm bar a stage."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        for handler in logging.getLogger().handlers:
            if isinstance(handler, log.Handler):  # a line takes the bar's place, and the bar goes on below it
                handler.pausing = partial(tqdm.external_write_mode, file=sys.stderr)

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:  # noqa: ARG002 - a bar has no room
        """Open the bar of a stage."""
        self.close()
        self._bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr, dynamic_ncols=True, leave=False)

    def advance(self, count: int = 1, **facts: object) -> None:
        """Move it on."""
        if self._bar is not None:
            if facts:
                self._bar.set_postfix(facts, refresh=False)
            self._bar.update(count)

    def close(self) -> None:
        """Wipe it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonLines:
    """One line every 30 seconds."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:
        """Begin to count a stage."""
        self._began, self._done, self._total = time.monotonic(), 0, total
        self._stage = {"host": socket.gethostname(), "scene": scene or None, "stage": label, "unit": unit}

    def advance(self, count: int = 1, **facts: object) -> None:
        """Count, and write a line where the last one is 30 seconds old."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            seconds_each = (now - self._began) / max(self._done, 1)
            left = round(seconds_each * (self._total - self._done)) if self._done else None
            figures = {"done": self._done, "total": self._total, **facts, "left": left}
            sys.stderr.write(json.dumps({**self._stage, **figures}) + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Nothing is open."""


def watcher(form: str = "text") -> Progress:
    """Lines where `form` is json; else a bar on a terminal, silence elsewhere."""
    if form == "json":
        return JsonLines()
    return Bar() if sys.stderr.isatty() and log.verbosity() >= 0 else SILENT
