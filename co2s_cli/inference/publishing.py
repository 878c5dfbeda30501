"""Upload of finished outputs to object storage: the map last."""

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

MISSING = "is missing, although its map exists"
MADE_DIFFERENTLY = "is complete, but was made from another scene or model, or with other settings"

_KEY = "co2skey"
"""Name of the metadata entry of every object that holds the key of its map; Azure allows only letters and digits."""


def publish(target: Target, key: str, names: Collection[str]) -> None:
    """Upload those of the outputs `names` that have an address; remove the local files of all outputs with one.

    Sidecar files such as styles are uploaded with their output. The map comes last: if it exists, all outputs do.

    Raises:
        OutputError: the store refuses, or cannot be reached; the local files stay for the next run.
    """
    for name, address in sorted(target.addresses.items(), key=lambda item: item[0] == CLASS):
        path = target.outputs[name]
        output_and_sidecars = path.parent.glob(f"{glob.escape(path.stem)}*") if name in names else ()
        files = [file for file in output_and_sidecars if file.is_file()]
        for file in sorted(files, key=lambda file: (file == path, file)):
            _upload(file, f"{address.rpartition('/')[0]}/{file.name}", key)
        shutil.rmtree(path.parent, ignore_errors=True)
        if files:
            log.info("%s: uploaded", address)


def _upload(path: Path, address: str, key: str) -> None:
    upload(path, address, {_KEY: key, "Content-Type": media_type(path)})


def published_problem(address: str, key: str) -> str | None:
    """Why an object has to be made again; None if it carries the map's `key`."""
    attributes = stored_attributes(address)
    if attributes is None:
        return MISSING
    return None if attributes.get(_KEY) == key else MADE_DIFFERENTLY
