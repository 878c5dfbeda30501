"""Several scenes, one after the other: one that fails does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import Co2sError, InterruptError, PartialError
from co2s_cli.geo.sources import expand_sources
from co2s_cli.inference.targets import Target
from co2s_cli.progress import Progress

M = TypeVar("M", bound=MapConfig)

log = logging.getLogger(__name__)


def listed(settings: M) -> M:
    """Settings that name each scene: folders, buckets and catalogues are looked into once."""
    folder = None if settings.scratch is None else settings.scratch / "items"
    return settings.naming(expand_sources(settings.scenes, settings.assets, folder))


@dataclass(frozen=True, slots=True)
class Failure:
    """A scene of which not all was made."""

    source: str
    exit_code: int
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, source: str, error: Co2sError) -> Failure:
        """The failure that an error is."""
        return cls(source, error.exit_code, error.message, error.hint)

    def text(self) -> str:
        """What is wrong and what to do."""
        return self.message + (f" (hint: {self.hint})" if self.hint else "")


def each(
    targets: Sequence[Target], make: Callable[[Target], None], progress: Progress, *, alone: bool | None = None
) -> tuple[Failure, ...]:
    """Make something of every scene; those with which that failed.

    `alone`: whether the user has named only one; the number of targets tells that where nothing is said.

    Raises:
        Co2sError: what is wrong with the only scene.
        InterruptError: Ctrl-C; what is finished stays for the next run of the same command.
    """
    failed: list[Failure] = []
    alone = len(targets) == 1 if alone is None else alone
    for target in targets:
        try:
            make(target)
        except Co2sError as error:
            if alone:
                raise
            failure = Failure.of(target.source, error)
            log.error("%s: %s", target.source, failure.text())  # noqa: TRY400 - the user's to mend, not a bug to trace
            failed.append(failure)
        except KeyboardInterrupt as error:
            progress.close()
            raise InterruptError(
                f"interrupted: what is finished of {target.out} is kept; run the same command again to go on"
            ) from error
    return tuple(failed)


def check(failed: Sequence[Failure], scenes: int) -> None:
    """Raise where some of the scenes failed, with a list of them."""
    if failed:
        listed = "".join(f"\n  {failure.source}: {failure.text()}" for failure in failed)
        raise PartialError(f"{len(failed)} of {scenes} scenes failed:{listed}")
