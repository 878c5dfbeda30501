"""Every way the program may stop that a user can mend: a message, a hint, an exit code."""

import re
from typing import Any, ClassVar

SHOWN_CHARACTERS = 80
"""Longest value that a message repeats."""


FOREIGN_CHARACTERS = 300
"""Longest text of another library that a message repeats."""


_SECRETS = (
    (re.compile(r"(?<=://)[^\s/@]+@"), "…@"),
    (re.compile(r"(https?://[^\s?]+\?)[^\s)'\",]*[^\s)'\",:]"), r"\1…"),
)
"""What an address may hold that is nobody else's business: a password, and a query, which may be a signature."""


def printable(text: str) -> str:
    """`text` with control characters and undecodable bytes escaped, and no secrets of addresses; line ends stay."""
    for secret, stand_in in _SECRETS:
        text = secret.sub(stand_in, text)
    return "".join(mark if mark.isprintable() or mark == "\n" else repr(mark)[1:-1] for mark in text)


def shown(value: Any) -> str:
    """A value as a message repeats it: its repr on one line, cut at 80 characters."""
    text = printable(repr(value)).replace("\n", "\\n")
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def shortened(text: str) -> str:
    """`text` with words that no message needs whole, of more than 255 characters, cut at 80."""
    return re.sub(r"\S{256,}", lambda word: f"{word[0][:SHOWN_CHARACTERS]}…", text)


def one_line(error: BaseException | str) -> str:
    """What a foreign error says, on one line, cut at 300 characters."""
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= FOREIGN_CHARACTERS else text[: FOREIGN_CHARACTERS - 1] + "…"


class Co2sError(Exception):
    """Base of all errors that are the user's to mend; anything else is a bug of ours.

    `message` says what, which file, what was found and what was wanted; `hint` names the next step.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(Co2sError):
    """A flag, a YAML key or a combination of them that makes no sense."""

    exit_code = 2


class InputError(Co2sError):
    """A scene, a label or another file that cannot be read or does not fit."""

    exit_code = 3


class OutputError(Co2sError):
    """An output that exists, cannot be written, or has no room."""

    exit_code = 4


class InUseError(OutputError):
    """An output that another process is writing just now."""


class ModelError(Co2sError):
    """Weights or a model file that are broken, foreign, or fit neither the code nor their manifest."""

    exit_code = 5


class ResourceError(Co2sError):
    """Too little memory, disk or device for what was asked."""

    exit_code = 6


class PartialError(Co2sError):
    """Several scenes were asked for and some of them failed."""

    exit_code = 7


class InterruptError(Co2sError):
    """Ctrl-C arrived; `message` is the one line that says how to go on."""

    exit_code = 130
