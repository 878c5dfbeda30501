"""GeoTIFFs that hold a checksum of their own bytes, by which a damaged or changed file is detected."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

CHECKSUM_TAG = "CO2S_SHA256"
"""Metadata item with the SHA-256, in hexadecimal, of all bytes of the file except these digits."""

UNSET = "0" * 64
"""Value of the item while the file is written; as long as the digest that replaces it."""

_ITEM = f'<Item name="{CHECKSUM_TAG}">'.encode()
_CHUNK = 1 << 20


def store_checksum(path: Path) -> None:
    """Write the checksum into a closed file whose tag `CHECKSUM_TAG` is `UNSET`."""
    with path.open("r+b") as file:
        position = _position(file)
        if position is None:
            raise ValueError(f"{path} was written without the tag {CHECKSUM_TAG}")
        digits = _digest(file, position)
        file.seek(position)
        file.write(digits)


def checksum_holds(path: Path) -> bool:
    """Whether a file holds a checksum that matches its bytes; False if the file cannot be read."""
    try:
        with path.open("rb") as file:
            position = _position(file)
            if position is None:
                return False
            file.seek(position)
            stored = file.read(len(UNSET))
            return stored == _digest(file, position)
    except OSError:
        return False


def was_changed(path: Path) -> bool:
    """Whether a file holds a checksum that does not match its bytes; False if it holds none or cannot be read."""
    try:
        with path.open("rb") as file:
            if _position(file) is None:
                return False
    except OSError:
        return False
    return not checksum_holds(path)


def _position(file: BinaryIO) -> int | None:
    """Byte offset of the checksum's digits; None if the file has no checksum."""
    file.seek(0)
    offset, window = 0, b""  # `offset`: position of `window` in the file
    while chunk := file.read(_CHUNK):
        window += chunk
        index = window.find(_ITEM)
        if index >= 0:
            return offset + index + len(_ITEM)
        kept = window[-len(_ITEM) :]  # the item may lie across two chunks
        offset, window = offset + len(window) - len(kept), kept
    return None


def _digest(file: BinaryIO, position: int) -> bytes:
    """SHA-256 in hexadecimal digits of a file without the digits that it holds at `position`."""
    sha256 = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(min(_CHUNK, max(0, position - file.tell()))):
        sha256.update(chunk)
    file.seek(position + len(UNSET))
    while chunk := file.read(_CHUNK):
        sha256.update(chunk)
    return sha256.hexdigest().encode()
