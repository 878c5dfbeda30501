"""What helper processes do in tests; they import it by name."""

import logging
import os

import numpy as np

from co2s_cli.errors import InputError
from co2s_cli.inference.products import Plane
from co2s_cli.inference.store import Parts


def tell(task, share, report):
    report("windows", task + share.index)
    report("note", f"share {share.index}")


def fail(task, share, report):
    raise InputError("no such thing", hint="find it")


def break_down(task, share, report):
    raise ZeroDivisionError


def vanish(task, share, report):
    os._exit(9)


def speak(task, share, report):
    logging.getLogger("co2s_cli.tests").info("helper speaks")


def write_as_process_one(task, share, report):
    """As in a container: process 1, which sees the shared folder under a path of its own."""
    os.getpid = lambda: 1
    mounts, unit, key, times = task
    parts = Parts(mounts[share.index - 1], (Plane("class", "class"),), key)
    pixels = np.random.default_rng(0).integers(0, 9, (1, unit.height, unit.width)).astype(np.uint8)
    for _ in range(times):
        parts.write(unit, {"class": pixels})
        report("note", "whole" if parts.has(unit) else "torn")
