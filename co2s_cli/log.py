"""Verbosity to logging levels; every message goes to stderr, other libraries' only at `-v`."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

from co2s_cli.errors import printable, shortened

OURS = "co2s_cli"


class Handler(logging.StreamHandler[TextIO]):
    """Writes records to a stream; whoever draws on the same terminal sets `pausing`, so that both keep apart."""

    pausing: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with self.pausing():
            super().emit(record)


class _Printable(logging.Formatter):
    """Messages repeat names from files that anybody may have made: their control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return shortened(printable(super().format(record)))


def setup(amount: int) -> None:
    """Send log records to stderr: ours from INFO, other libraries' from ERROR; each `-v` shows more, each `-q` less.

    Library warnings become log records, so that they obey the same rule instead of littering the terminal; lines that
    GDAL prints by itself are shown from `-vv` on.
    Under torchrun, ranks above 0 say only what goes wrong.
    """
    if os.environ.get("RANK", "0").strip() not in ("0", ""):
        amount = min(amount, -2)
    handler = Handler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s" if amount < 2 else "%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(logging.ERROR, amount))
    logging.getLogger(OURS).setLevel(_level(logging.INFO, amount))
    if amount < 2:  # GDAL and PROJ print what no handler takes; they read this before their first message
        os.environ.setdefault("CPL_LOG", os.devnull)
    logging.captureWarnings(True)
    if not sys.warnoptions:
        warnings.simplefilter("default" if amount > 0 else "ignore")


def verbosity() -> int:
    """The verbosity in force, told from the level of our own logger."""
    return -(-(logging.INFO - logging.getLogger(OURS).getEffectiveLevel()) // 10)


def _level(base: int, amount: int) -> int:
    return max(1, base - 10 * amount)
