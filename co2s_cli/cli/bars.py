"""The terminal's progress bar: on stderr, only where a person looks, never with `-q`."""

import logging
import sys
from functools import partial

from tqdm import tqdm

from co2s_cli import log
from co2s_cli.progress import SILENT, Progress


class Bar:
    """One tqdm bar a stage."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        for handler in logging.getLogger().handlers:
            if isinstance(handler, log.Handler):  # a line takes the bar's place, and the bar goes on below it
                handler.pausing = partial(tqdm.external_write_mode, file=sys.stderr)

    def start(self, label: str, total: int, unit: str) -> None:
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


def watcher() -> Progress:
    """A bar on a terminal, silence elsewhere."""
    return Bar() if sys.stderr.isatty() and log.verbosity() >= 0 else SILENT
