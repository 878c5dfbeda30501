"""Set up logging by verbosity; all messages go to stderr, those of other libraries below errors only with `-v`."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

from co2s_cli.errors import printable, shortened

PACKAGE = "co2s_cli"


class Handler(logging.StreamHandler[TextIO]):
    """Writes log records to a stream."""

    pausing: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """Entered while a record is written; progress bars set it to pause their drawing on the same terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with self.pausing():
            super().emit(record)


class _Printable(logging.Formatter):
    """Escapes control characters: messages repeat names from files that may come from anybody."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return shortened(printable(super().format(record)))


def setup(amount: int) -> None:
    """Send log records to stderr: those of co2s from level INFO, those of other libraries from ERROR.

    `amount` is the number of `-v` minus the number of `-q`; each step lowers both levels by one. Warnings of libraries
    become log records and follow the same rule. Lines that GDAL itself prints are shown from `-vv` on. Under torchrun,
    ranks above 0 show errors only.
    """
    if os.environ.get("RANK", "0").strip() not in ("0", ""):
        amount = min(amount, -2)
    handler = Handler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s" if amount < 2 else "%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(logging.ERROR, amount))
    logging.getLogger(PACKAGE).setLevel(_level(logging.INFO, amount))
    if amount < 2:  # GDAL and PROJ print messages that no handler takes; they read this before the first one
        os.environ.setdefault("CPL_LOG", os.devnull)
    logging.captureWarnings(True)
    if not sys.warnoptions:
        warnings.simplefilter("default" if amount > 0 else "ignore")


def verbosity() -> int:
    """The `amount` that is set up, computed from the level of the package's logger."""
    return -(-(logging.INFO - logging.getLogger(PACKAGE).getEffectiveLevel()) // 10)


def _level(base: int, amount: int) -> int:
    return max(1, base - 10 * amount)
