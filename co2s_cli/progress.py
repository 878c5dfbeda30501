"""The interface by which a job reports progress, and an implementation that ignores it; bars are in `cli/bars`."""

from typing import Protocol


class Progress(Protocol):
    """Receives reports about one stage of work at a time."""

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:
        """A stage of `total` units begins, for the scene `scene` if that is not empty; the stage before ends."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """`count` more units are done; `facts` are short figures to show with the progress."""

    def close(self) -> None:
        """The work ends."""


class Silent:
    """Ignores all reports; the default of every job."""

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:
        """Ignore it."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Ignore it."""


SILENT = Silent()
