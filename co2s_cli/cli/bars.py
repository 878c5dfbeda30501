"""Progress on stderr: a bar on a terminal (unless `-q`), or lines of JSON for log collectors."""

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
    """Progress as tqdm bars, one per stage."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        for handler in logging.getLogger().handlers:
            if isinstance(handler, log.Handler):  # print log lines above the bar instead of through it
                handler.pausing = partial(tqdm.external_write_mode, file=sys.stderr)

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:  # noqa: ARG002 - not shown in a bar
        """Open the bar of a stage."""
        self.close()
        self._bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr, dynamic_ncols=True, leave=False)

    def advance(self, count: int = 1, **facts: object) -> None:
        """Advance the bar by `count`, and show `facts` at its end."""
        if self._bar is not None:
            if facts:
                self._bar.set_postfix(facts, refresh=False)
            self._bar.update(count)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonLines:
    """Progress as a line of JSON every 30 seconds."""

    def __init__(self) -> None:
        self._last_line = time.monotonic()

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:
        """Start counting the units of a stage."""
        self._started, self._done, self._total = time.monotonic(), 0, total
        self._stage = {"host": socket.gethostname(), "scene": scene or None, "stage": label, "unit": unit}

    def advance(self, count: int = 1, **facts: object) -> None:
        """Count `count` units; write a line if the last one is 30 seconds old."""
        self._done += count
        now = time.monotonic()
        if now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            seconds_each = (now - self._started) / max(self._done, 1)
            left = round(seconds_each * (self._total - self._done)) if self._done else None
            figures = {"done": self._done, "total": self._total, **facts, "left": left}
            sys.stderr.write(json.dumps({**self._stage, **figures}) + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Do nothing: no line is open."""


def watcher(form: str = "text") -> Progress:
    """The progress display of a command: JSON lines if `form` is json; else a bar on a terminal, or nothing."""
    if form == "json":
        return JsonLines()
    return Bar() if sys.stderr.isatty() and log.verbosity() >= 0 else SILENT
