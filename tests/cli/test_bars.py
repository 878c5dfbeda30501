"""The progress bar and the lines of the log share a terminal: neither writes into the other."""

import io
import json
import logging
import re
import sys

import pytest

from co2s_cli import log
from co2s_cli.cli import bars
from co2s_cli.progress import SILENT


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def rows(self):
        """What is to be read on it: a carriage return begins a row anew, what is written covers what was there."""
        rows = []
        for line in self.getvalue().split("\n"):
            row = ""
            for part in re.sub(r"\x1b\[A", "", line).split("\r"):
                row = part + row[len(part) :]
            rows.append(row.rstrip())
        return rows


@pytest.fixture
def terminal(monkeypatch):
    """Puts a terminal in the place of stderr; called in a test, since pytest puts its own there before each of them."""

    def installed(stream=None):
        screen = Terminal() if stream is None else stream
        monkeypatch.setattr(sys, "stderr", screen)
        log.setup(0)
        return screen

    return installed


def test_a_line_of_the_log_takes_the_bars_place_and_the_bar_goes_on_below(terminal):
    screen = terminal()
    bar = bars.watcher()
    bar.start("train", 100, "step")
    bar.advance(10, loss="0.5")
    logging.getLogger("co2s_cli.training").info("step 10 of 100")
    rows = screen.rows()
    assert rows[0] == "step 10 of 100"
    assert rows[-1].startswith("train:")
    bar.close()
    assert screen.rows()[-1] == ""


def test_without_a_bar_lines_are_as_they_are(terminal):
    screen = terminal()
    logging.getLogger("co2s_cli").info("one")
    logging.getLogger("co2s_cli").info("two")
    assert screen.getvalue() == "one\ntwo\n"


def test_there_is_no_bar_with_q_or_on_a_pipe(terminal):
    terminal()
    log.setup(-1)
    assert bars.watcher() is SILENT
    terminal(io.StringIO())
    assert bars.watcher() is SILENT


def test_lines_of_json_say_what_is_done_and_left(terminal, monkeypatch):
    screen = terminal()
    lines = bars.watcher("json")
    monkeypatch.setattr(bars, "LINE_SECONDS", 0)
    lines.start("windows", 8, "window", scene="a.tif")
    lines.advance(2, **{"Mpx/s": "1.50"})
    monkeypatch.setattr(bars, "LINE_SECONDS", 30)
    lines.advance(2)
    lines.close()
    (line,) = map(json.loads, screen.getvalue().splitlines())
    assert line.keys() == {"host", "scene", "stage", "unit", "done", "total", "Mpx/s", "left"}
    assert (line["scene"], line["done"], line["total"], line["Mpx/s"]) == ("a.tif", 2, 8, "1.50")
