"""What a job tells whoever watches it; the terminal's bar is one such watcher, silence another."""

from typing import Protocol


class Progress(Protocol):
    """A watcher of one stage of work at a time."""

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:
        """A stage of `total` units begins, of one scene where that is named; a stage that was open ends."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """`count` more units are done; `facts` are short figures worth showing beside them."""

    def close(self) -> None:
        """All stages are over."""


class Silent:
    """The watcher that looks away: the default of every job."""

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:
        """Ignore it."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Ignore it."""


SILENT = Silent()
