"""The settings with which a command line trains: those of a new run, or of the one in its folder that is to go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from co2s_cli.config.base import read_yaml
from co2s_cli.config.run import RunConfig, content_of_run
from co2s_cli.training.names import CONFIG, LAST, STATE

R = TypeVar("R", bound=RunConfig)

DRAFTED = ("data", "labels", "attribute", "overlaps")
"""Flags whose place in the settings of a run the data.yaml takes that is drafted of a scene and polygons."""


def settings_for_run(
    settings_of: Callable[..., R],
    resumed: Callable[..., R],
    config: Path | None,
    flags: dict[str, Any],
    extra: list[str],
) -> R:
    """Settings of a new run or, where it is to go on, of the one in its folder; the training alone can refuse them.

    Of a scene and polygons the data.yaml is written. Under torchrun all processes take what the first one reads in the
    run folder, and all refuse what one refuses.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return _checked(settings_of, resumed, config, flags, extra, run=_run_in_folder(flags))
    from co2s_cli.training.runtime import agreed_before, leader_says  # loads torch

    found = None
    with agreed_before("folder"):
        if os.environ.get("RANK", "0") == "0":
            found = _run_in_folder(flags)
    found = leader_says("run", found) if flags.get("resume") else None
    with agreed_before("checks"):
        return _checked(settings_of, resumed, config, flags, extra, run=found)


def _run_in_folder(flags: dict[str, Any]) -> dict[str, Any] | None:
    """The config.yaml of the run that is to go on; None where one is to begin."""
    wish, folder = flags.get("resume"), flags.get("out")
    if not wish or not folder or (wish == "auto" and not (Path(folder) / STATE).is_file()):
        return None
    return content_of_run(Path(folder))


def _checked(
    settings_of: Callable[..., R],
    resumed: Callable[..., R],
    config: Path | None,
    flags: dict[str, Any],
    extra: list[str],
    *,
    run: dict[str, Any] | None,
) -> R:
    """The settings, after all checks that need no torch; `run` is the config.yaml of a run that is to go on."""
    from co2s_cli.jobs import early, init  # rasterio loads slowly

    new = flags
    if flags.get("resume") == "auto" and "out" in flags:
        folder = Path(flags["out"])  # with config but no model: ended before it had learnt anything
        begun = (folder / CONFIG).exists() and not (folder / LAST).exists()
        new = {
            **{key: value for key, value in flags.items() if key != "resume"},
            **({"overwrite": True} if begun else {}),
        }
    if run is None:
        return init.checked_run(settings_of(config, new, extra))
    draft = None
    if new is not flags:  # the whole command line again: all of it has to be that of the run
        given = {**(read_yaml(config) if config else {}), **flags, "resume": True}
        if "labels" in given:
            draft = init.draft_for_run(settings_of(config, {**new, "overwrite": False}, extra))
            given = {key: value for key, value in given.items() if key not in DRAFTED}
        flags = given
    settings = resumed(Path(flags["out"]), flags, extra, run)
    early.check_run(settings)
    return init.with_draft(settings, draft)
