"""Settings of a training command line: for a new run, or for resuming the run in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from co2s_cli.config.base import read_yaml
from co2s_cli.config.run import RunConfig, content_of_run
from co2s_cli.training.names import CONFIG, LAST, STATE

R = TypeVar("R", bound=RunConfig)

DRAFTED = ("data", "labels", "attribute", "overlaps", "ignore", "bands")
"""Flags that a run on a scene and its labels replaces by the data.yaml drafted from them."""


def settings_for_run(
    settings_of: Callable[..., R],
    resumed: Callable[..., R],
    config: Path | None,
    flags: dict[str, Any],
    extra: list[str],
) -> R:
    """Settings of a new run or of the run to resume, after all checks that need no training.

    For a run on a scene and its labels the data.yaml is written. Under torchrun all processes use what the first one
    reads in the run folder, and if one process refuses the settings, all do.

    Args:
        settings_of: makes the settings of a new run of config file, flags and extra arguments.
        resumed: makes the settings of a resumed run of its folder, flags, extra arguments and its config.yaml.
        config: file of --config.
        flags: flags by field.
        extra: settings as key=value.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return _checked(settings_of, resumed, config, flags, extra, run=_run_in_folder(flags))
    from co2s_cli.training.runtime import agreed_before, leader_says  # loads torch

    run = None
    with agreed_before("folder"):
        if os.environ.get("RANK", "0") == "0":
            run = _run_in_folder(flags)
    run = leader_says("run", run) if flags.get("resume") else None
    with agreed_before("checks"):
        return _checked(settings_of, resumed, config, flags, extra, run=run)


def _run_in_folder(flags: dict[str, Any]) -> dict[str, Any] | None:
    """The config.yaml of the run to resume; None for a new run."""
    resume, folder = flags.get("resume"), flags.get("out")
    if not resume or not folder or (resume == "auto" and not (Path(folder) / STATE).is_file()):
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
    """The settings after all checks that need no torch; `run` is the config.yaml of the run to resume, if any."""
    from co2s_cli.jobs import early, init  # rasterio loads slowly

    new_run_flags = flags
    if flags.get("resume") == "auto" and "out" in flags:
        folder = Path(flags["out"])
        ended_before_first_model = (folder / CONFIG).exists() and not (folder / LAST).exists()
        new_run_flags = {
            **{key: value for key, value in flags.items() if key != "resume"},
            **({"overwrite": True} if ended_before_first_model else {}),
        }
    if run is None:
        return init.checked_run(settings_of(config, new_run_flags, extra))
    draft = None
    if new_run_flags is not flags:  # --resume auto repeats the whole command line: all of it must match the run
        all_flags = {**(read_yaml(config) if config else {}), **flags, "resume": True}
        if "labels" in all_flags:
            draft = init.draft_for_run(settings_of(config, {**new_run_flags, "overwrite": False}, extra))
            all_flags = {key: value for key, value in all_flags.items() if key not in DRAFTED}
        flags = all_flags
    settings = resumed(Path(flags["out"]), flags, extra, run)
    early.check_run(settings)
    return init.with_draft(settings, draft)
