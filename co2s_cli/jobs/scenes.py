"""Work on several scenes, one after the other; a failing scene does not stop the others."""

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


def list_scenes(settings: M) -> M:
    """The settings with every scene by name: folders, buckets and catalogues are listed only here."""
    folder = None if settings.scratch is None else settings.scratch / "items"
    return settings.naming(expand_sources(settings.scenes, settings.assets, folder))


@dataclass(frozen=True, slots=True)
class Failure:
    """A scene that failed, with its error."""

    source: str
    exit_code: int
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, source: str, error: Co2sError) -> Failure:
        """The failure of a scene by an error."""
        return cls(source, error.exit_code, error.message, error.hint)

    def text(self) -> str:
        """The error message with its hint."""
        return self.message + (f" (hint: {self.hint})" if self.hint else "")


def run_each(
    targets: Sequence[Target], make: Callable[[Target], None], progress: Progress, *, single_scene: bool | None = None
) -> tuple[Failure, ...]:
    """Call `make` for every scene; returns the scenes that failed.

    `single_scene`: whether the user named only one scene, whose error is then raised; None: if there is one target.

    Raises:
        Co2sError: the error of the only scene.
        InterruptError: Ctrl-C; finished parts stay for the next run of the same command.
    """
    failed: list[Failure] = []
    single_scene = len(targets) == 1 if single_scene is None else single_scene
    for target in targets:
        try:
            make(target)
        except Co2sError as error:
            if single_scene:
                raise
            failure = Failure.of(target.source, error)
            log.error("%s: %s", target.source, failure.text())  # noqa: TRY400 - for the user to fix, not a bug to trace
            failed.append(failure)
        except KeyboardInterrupt as error:
            progress.close()
            raise InterruptError(
                f"interrupted: the finished parts of {target.out} are kept; run the same command again to continue"
            ) from error
    return tuple(failed)


def raise_failures(failed: Sequence[Failure], scenes: int) -> None:
    """Raise `PartialError` with a list of the failed scenes, if there are any, of `scenes` scenes in all."""
    if failed:
        lines = "".join(f"\n  {failure.source}: {failure.text()}" for failure in failed)
        raise PartialError(f"{len(failed)} of {scenes} scenes failed:{lines}")
