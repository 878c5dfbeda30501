"""Outputs that go to object storage once they are whole: all others first, the map last."""

from __future__ import annotations

import glob
import logging
import shutil
from collections.abc import Collection
from pathlib import Path

from co2s_cli.cloud import stored_attributes, upload
from co2s_cli.geo.media_types import media_type
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.targets import Target

log = logging.getLogger(__name__)

MISSING = "is missing beside its map"
OTHERWISE = "is whole, but was made from something else or with other settings"

_KEY = "co2skey"
"""Metadata of every object: the key of the map that it belongs to; Azure takes letters and digits alone."""


def publish(target: Target, key: str, wanted: Collection[str]) -> None:
    """Upload those of some outputs that go to object storage, and remove what was made for that here.

    Styles and the like that lie beside an output go with it. The map comes last: once it is there, everything is.

    Raises:
        OutputError: the store refuses, or is not there; everything stays on this machine for the next run.
    """
    for name, address in sorted(target.addresses.items(), key=lambda item: item[0] == CLASS):
        path = target.outputs[name]
        beside = path.parent.glob(f"{glob.escape(path.stem)}*") if name in wanted else ()
        files = [file for file in beside if file.is_file()]
        for file in sorted(files, key=lambda file: (file == path, file)):
            _upload(file, f"{address.rpartition('/')[0]}/{file.name}", key)
        shutil.rmtree(path.parent, ignore_errors=True)
        if files:
            log.info("%s: uploaded", address)


def _upload(path: Path, address: str, key: str) -> None:
    upload(path, address, {_KEY: key, "Content-Type": media_type(path)})


def published_problem(address: str, key: str) -> str | None:
    """What keeps an object from being done; None where it was made under `key`."""
    attributes = stored_attributes(address)
    if attributes is None:
        return MISSING
    return None if attributes.get(_KEY) == key else OTHERWISE
