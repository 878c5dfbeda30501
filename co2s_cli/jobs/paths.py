"""Check for each command that no file that it writes is also one that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from co2s_cli.config.base import Settings
from co2s_cli.config.data import read_data
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.config.flags import Flag, as_typed, on_command_line
from co2s_cli.config.mapping import MapConfig
from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.config.run import RunConfig
from co2s_cli.geo.protected import Named, check_apart, leads_to_file
from co2s_cli.inference.targets import Target
from co2s_cli.models import weights
from co2s_cli.pseudo.round_folder import RoundFolder
from co2s_cli.scoring.report import WRITTEN as REPORT_FILES
from co2s_cli.training.names import RUN_FILES


def check_files(settings: Settings, outputs: Iterable[Named], inputs: Iterable[Named] = ()) -> None:
    """Refuse `outputs` that are also input files of the settings, or among further `inputs`.

    Raises:
        ConfigError: an output is an input; names both.
    """
    check_apart([*_named_inputs(settings), *inputs], outputs)


def check_outputs(settings: Settings, inputs: Iterable[Named] = ()) -> None:
    """`check_files` for the outputs that the settings name, each a file."""
    check_files(settings, [(flag, path) for flag, panel, path in _paths(settings) if panel == "Output"], inputs)


def check_maps(
    settings: MapConfig, targets: Sequence[Target], outputs: Iterable[Named] = (), inputs: Iterable[Named] = ()
) -> None:
    """`check_files` for the rasters of all scenes and further `outputs`, against scenes, model and further `inputs`."""
    rasters = [
        (f"--{name}" if hasattr(settings, name) else "--out", path)
        for target in targets
        for name, path in target.display_names.items()
    ]
    scenes = [("SCENE", name) for name in (*(target.source for target in targets), *settings.lists)]
    model = ("--model", settings.model or weights.default_path())
    check_files(settings, [*rasters, *outputs], [*scenes, model, *inputs])


def check_round(settings: PseudoLabelConfig, folder: RoundFolder, targets: Sequence[Target]) -> None:
    """`check_files` for all outputs of a round, against the files of the data.yaml of --keep-labels as well."""
    kept = files_of_data(settings.keep_labels) if settings.keep_labels else []
    check_maps(settings, targets, [("--out", path) for path in folder.outputs(targets)], kept)


def check_report(settings: EvaluateConfig) -> None:
    """`check_files` for the files of a report."""
    if settings.out is not None:
        has_data_yaml = settings.model is not None and Path(settings.source).is_file()
        data = files_of_data(Path(settings.source)) if has_data_yaml else []
        check_files(settings, [("--out", settings.out / name) for name in REPORT_FILES], data)


def check_run(settings: RunConfig) -> None:
    """`check_files` for all files that a run writes into its folder, against all files of its data."""
    if settings.out is None:  # the run makes a new folder
        return
    has_data_yaml = settings.root is None and settings.labels is None
    data = files_of_data(Path(settings.data)) if has_data_yaml else []
    check_files(settings, [("--out", settings.out / name) for name in RUN_FILES], data)


def files_of_data(path: Path) -> list[Named]:
    """The files that a data.yaml names."""
    return [(str(path), file) for file in read_data(path).files]


def _named_inputs(settings: Settings) -> list[Named]:
    """Paths in the settings that are not outputs, and texts that name an existing file, with their flags."""
    inputs = [(flag, value) for flag, panel, value in _paths(settings, texts=True) if panel != "Output"]
    return inputs if settings.config_file is None else [*inputs, ("--config", settings.config_file)]


def _paths(settings: Settings, *, texts: bool = False) -> Iterator[tuple[str, str | None, str | Path]]:
    """Flag, panel and value of every path in the settings; with `texts` also those texts that may name a file."""
    kind = type(settings)
    for name in kind.model_fields:
        entry = on_command_line(kind, name)
        panel = entry.panel if isinstance(entry, Flag) else None
        for value in _flat(getattr(settings, name)):
            if isinstance(value, Path) or (texts and isinstance(value, str) and leads_to_file(value)):
                yield as_typed(kind, name), panel, value


def _flat(value: Any) -> Iterator[Any]:
    """The items of a nested list, or the value itself."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value
