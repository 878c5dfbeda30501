"""What the commands share that train: how a run is started and told of."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from co2s_cli import log
from co2s_cli.cli.common import echo_result
from co2s_cli.config.base import read_yaml
from co2s_cli.config.run import RunConfig, content_of_run
from co2s_cli.errors import Co2sError
from co2s_cli.training.names import CONFIG, STATE

Extra = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, as --config takes them.")
]


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
        return _checked(settings_of, resumed, config, flags, extra, _run_in_folder(flags))
    from co2s_cli.training.runtime import agreed_before, leader_says  # loads torch

    found = None
    with agreed_before("folder"):
        if os.environ.get("RANK", "0") == "0":
            found = _run_in_folder(flags)
    found = leader_says("run", found)
    with agreed_before("checks"):
        return _checked(settings_of, resumed, config, flags, extra, found)


def _run_in_folder(flags: dict[str, Any]) -> dict[str, Any] | None:
    """The config.yaml of the run that is to go on; None where one is to begin."""
    wish, folder = flags.get("resume"), flags.get("out")
    if not wish or not folder or (wish == "auto" and not (folder / STATE).is_file()):
        return None
    return content_of_run(folder)


def _checked(
    settings_of: Callable[..., R],
    resumed: Callable[..., R],
    config: Path | None,
    flags: dict[str, Any],
    extra: list[str],
    run: dict[str, Any] | None,
) -> R:
    """The settings, after all checks that need no torch; `run` is the config.yaml of a run that is to go on."""
    from co2s_cli.jobs import early, init  # rasterio loads slowly

    new = flags
    if flags.get("resume") == "auto" and "out" in flags:
        begun = (flags["out"] / CONFIG).exists()  # but no state: ended before it had learnt anything
        new = {
            **{key: value for key, value in flags.items() if key != "resume"},
            **({"overwrite": True} if begun else {}),
        }
    if run is None:
        settings = settings_of(config, new, extra)
        early.check_run(settings)
        draft = init.draft_for_run(settings)
        early.check_pretrained(settings)
        return init.with_draft(settings, draft)
    draft = None
    if new is not flags:  # the whole command line again: all of it has to be that of the run
        given = {**(read_yaml(config) if config else {}), **flags, "resume": True}
        if "labels" in given:
            draft = init.draft_for_run(settings_of(config, {**new, "overwrite": False}, extra))
            given = {key: value for key, value in given.items() if key not in DRAFTED}
        flags = given
    settings = resumed(flags["out"], flags, extra, run)
    early.check_run(settings)
    return init.with_draft(settings, draft)


@contextlib.contextmanager
def in_one_voice() -> Iterator[None]:
    """Under torchrun, an error that ends several processes is told by one of them; to be entered before torch loads."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    if log.verbosity() <= 0:  # else torch's C++ part warns, once for each process, of parameters that might be unused
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    except Co2sError as error:
        from co2s_cli.training.runtime import first_to_say  # loads torch

        if first_to_say(error):
            raise
        raise typer.Exit(error.exit_code) from error


def echo_run(result: Any, *, as_json: bool) -> None:
    """The result of a run; under torchrun each process comes by here, and one of them speaks."""
    if os.environ.get("RANK", "0") == "0":
        echo_result(result, as_json=as_json, text=str(result.model))
