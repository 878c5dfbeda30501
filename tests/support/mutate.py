"""Ways to damage the bytes of a file; each takes the bytes and a generator, and returns other bytes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

Mutator = Callable[[bytes, random.Random], bytes]

_STRANGE = (
    b"0", b"-1", b"1e308", b"-1e308", b"1e-300", b"nan", b".nan", b".inf", b"99999999999999999999", b"4294967296", b"",
    b"null", b"true", b"[]", b"{}", b"\x1b[31m", b"x" * 300, "é".encode(), b"\xff", b"../../x", b"/dev/null", b"*a",
)  # fmt: skip


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits, anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_early(data: bytes, rng: random.Random) -> bytes:
    """Some bits among the first and the last 600 bytes, where most formats keep what describes the rest."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(min(600, len(out)))
        out[at if rng.random() < 0.7 else -1 - at] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """A stretch of zeros, ones or noise."""
    start, length = rng.randrange(len(data)), rng.choice((1, 4, 64, 1024))
    length = min(length, len(data) - start)
    filling = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:start] + filling + data[start + length :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Cut off the end, or all."""
    return data[: rng.choice((0, 1, 8, rng.randrange(len(data)), len(data) - 1))]


def splice(data: bytes, rng: random.Random) -> bytes:
    """Leave out a stretch, say it twice, or move it."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    b = min(b, a + 5000)
    return rng.choice((data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:] + data[a:b]))


def replace_number(data: bytes, rng: random.Random) -> bytes:
    """Another value in place of one number of a text."""
    numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?", data))
    return _replaced(data, rng, numbers)


def replace_word(data: bytes, rng: random.Random) -> bytes:
    """Another value in place of one word of a text."""
    return _replaced(data, rng, list(re.finditer(rb"[\w./:-]+", data)))


def change_lines(data: bytes, rng: random.Random) -> bytes:
    """Leave out a line, say it twice, or indent it."""
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at : at + 1] = rng.choice(([], [lines[at]] * 2, [b"  " + lines[at]], [lines[at]] * 3000))
    return b"".join(lines)


def nest(data: bytes, rng: random.Random) -> bytes:
    """Very many brackets at some place."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"[", b"{", b"- ", b"<a>", b"(")) * rng.choice((60, 5000)) + data[at:]


def change_header(data: bytes, rng: random.Random) -> bytes:
    """One number or word of a .safetensors header, its length put right."""
    size = int.from_bytes(data[:8], "little")
    changed = rng.choice((replace_number, replace_word))(data[8 : 8 + size], rng)
    return len(changed).to_bytes(8, "little") + changed + data[8 + size :]


def change_manifest(data: bytes, rng: random.Random) -> bytes:
    """One number or word of a model file's manifest, with the digest that belongs to it."""
    from safetensors.torch import load

    from co2s_cli.models.weights import digest_of

    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header["__metadata__"]
    changed = rng.choice((replace_number, replace_word))(metadata["manifest"].encode(), rng)
    metadata["manifest"] = changed.decode(errors="replace")
    metadata["digest"] = digest_of(metadata["manifest"], load(data))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _replaced(data: bytes, rng: random.Random, matches: list[re.Match[bytes]]) -> bytes:
    if not matches:
        return data + rng.choice(_STRANGE)
    match = rng.choice(matches)
    return data[: match.start()] + rng.choice(_STRANGE) + data[match.end() :]


BYTES: tuple[Mutator, ...] = (flip, flip_early, overwrite, cut, splice)
RASTER: tuple[Mutator, ...] = (flip, flip_early, flip_early, overwrite, cut, splice)
TEXT: tuple[Mutator, ...] = (replace_number, replace_word, replace_word, change_lines, nest, flip, cut, splice)
MODEL: tuple[Mutator, ...] = (change_manifest, change_manifest, change_manifest, change_header, flip, flip_early, cut)
