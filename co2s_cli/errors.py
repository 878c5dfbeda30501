"""The errors that a user can fix, each with a message, a hint and an exit code."""

import re
from typing import Any, ClassVar

SHOWN_CHARACTERS = 80
"""Most characters of a value that a message repeats."""


FOREIGN_CHARACTERS = 300
"""Most characters of another library's error that a message repeats."""


_SECRETS = (
    (re.compile(r"(?<=://)[^\s/@]+@"), "…@"),
    (re.compile(r"(https?://[^\s?]+\?)[^\s)'\",]*[^\s)'\",:]"), r"\1…"),
)
"""Patterns of secrets in addresses and their replacements: a password, and a query, which may hold a signature."""


def printable(text: str) -> str:
    """`text` with control characters and undecodable bytes escaped and secrets in addresses replaced; newlines stay."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def shown(value: Any) -> str:
    """A value as text for a message: its repr on one line, cut at 80 characters."""
    text = printable(repr(value)).replace("\n", "\\n")
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def shortened(text: str) -> str:
    """`text` with words of more than 255 characters cut at 80 characters."""
    return re.sub(r"\S{256,}", lambda word: f"{word[0][:SHOWN_CHARACTERS]}…", text)


def one_line(error: BaseException | str) -> str:
    """The message of another library's error on one line, cut at 300 characters."""
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= FOREIGN_CHARACTERS else text[: FOREIGN_CHARACTERS - 1] + "…"


class Co2sError(Exception):
    """Base of all errors that a user can fix; any other exception is a bug.

    `message` says what happened to which file, the value found and the value wanted; `hint` names the next step.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(Co2sError):
    """A flag or a YAML key, or a combination of them, that is not valid."""

    exit_code = 2


class InputError(Co2sError):
    """A scene, a label file or another input that cannot be read or does not fit the others."""

    exit_code = 3


class OutputError(Co2sError):
    """An output that exists or cannot be written."""

    exit_code = 4


class InUseError(OutputError):
    """An output that another process is writing at the same time."""


class ModelError(Co2sError):
    """Weights or a model file that are damaged, not made by co2s, or do not fit their manifest or the code."""

    exit_code = 5


class ResourceError(Co2sError):
    """Too little memory or disk space, or a missing device or package."""

    exit_code = 6


class PartialError(Co2sError):
    """Some of several scenes failed."""

    exit_code = 7


class InterruptError(Co2sError):
    """The user pressed Ctrl-C; `message` is the one line that says how to continue."""

    exit_code = 130
