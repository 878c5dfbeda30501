"""Write the commented text of a data.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from co2s_cli.config.data import DataConfig
from co2s_cli.data.draft.classes import RASTER_NOUN, ClassFacts

_TEXT = """\
# {origin}
# Correct what is wrong here, then: co2s train {name} --out runs/first --preset small
# Paths are relative to this file. Every key: docs/data.md

# Rename or recolour as you like; new names want `values:` below. `prompts:` are words for the default preset's CLIP.
classes:
{classes}

# Images with labels. `values:` says what a value of the {holder} means: {example}
{labeled}
# Images to learn from without labels; add more scenes of the same sensor here.
{unlabeled}
# Share of the labels that validates, {whole} of classes with several; or files: [{{image: …, labels: …}}]
{val}
# Bands that the model sees, by name or number in the file{known}. Delete those that it does not need.
# Scenes that it maps must have all bands of this list.
{bands}"""


def data_yaml(
    config: DataConfig, facts: Iterable[ClassFacts], *, name: str, origin: str, known: Sequence[str], noun: str
) -> str:
    """The commented text of a data.yaml.

    Args:
        config: its settings.
        facts: its classes, in the order of their ids.
        name: name of the file, for the command in its comments.
        origin: text of its first comment.
        known: common names of the bands.
        noun: what the labels are called: polygons, points, or both; `RASTER_NOUN` for a raster.
    """
    raster = noun == RASTER_NOUN
    entries = config.model_dump(mode="json", exclude_defaults=True)
    values = [entry.values for entry in config.labeled]  # not from the JSON dump: it turns numbers as keys into texts
    labeled = [
        {
            **entry,
            **({} if raster else {"attribute": item.attribute}),
            **({"values": dict(meaning)} if meaning else {}),
        }
        for entry, item, meaning in zip(entries["labeled"], config.labeled, values, strict=True)
    ]
    return _TEXT.format(
        origin=origin,
        name=name,
        classes="\n".join(_class_line(item, noun) for item in facts),
        holder="raster" if raster else "attribute",
        example="{1: water, 0: none}" if raster else "{pond: water, unknown: none}",
        labeled=_lines({"labeled": labeled}),
        whole="whole regions or blocks" if raster else "whole polygons",
        unlabeled=_lines({"unlabeled": [entry.image for entry in config.unlabeled]}),
        val=f"val: {config.val}\n",
        known=f" ({', '.join(known)})" if known else "",
        bands=_lines({"bands": list(config.bands)}),
    )


def _class_line(item: ClassFacts, noun: str) -> str:
    drawn = "" if item.polygons is None else f"{item.polygons} {noun}, "
    comment = f"{drawn}{item.pixels:,} pixels: {item.train_pixels:,} train, {item.val_pixels:,} validate"
    entry = {"name": item.name, "color": list(item.color)}
    line = yaml.safe_dump(entry, sort_keys=False, default_flow_style=True, allow_unicode=True, width=10_000)
    return f"- {line.strip()}  # {comment}"


def _lines(part: dict[str, Any]) -> str:
    return yaml.safe_dump(part, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
