"""Addresses (`https://`, `s3://`, `gs://`, `az://`): which texts are some, and one set of variables for all libraries.

GDAL reads pixels, obstore lists buckets and moves whole files. Both obey the same variables: those of Amazon's tools,
and GDAL's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

BUCKETS: Final[Mapping[str, str]] = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
"""Scheme of an object store → GDAL's name for it."""

HTTP: Final[Mapping[str, str]] = {
    # 503s and the like are asked again after 0.3 seconds, then after 2 to 2.5 times as long each; GDAL does the same
    # with time-outs, so that a host that never answers takes some 45 seconds
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "0.3",
    "GDAL_HTTP_CONNECTTIMEOUT": "4",
    # a server that sends under 1 byte/s for so long is down; large files take as long as they take
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "15",
}
"""How patient all libraries are, as GDAL's options; a variable of that name in the user's environment wins."""

_ADDRESS: Final = re.compile(r"(https?|s3|gs|az):/{1,2}(?=[^/])")


def address_of(name: str | Path) -> str | None:
    """The address that a name is; None where it is a path. A path type has lost one of the slashes after the scheme."""
    match = _ADDRESS.match(str(name))
    return f"{match[1]}://{str(name)[match.end() :]}" if match else None


def is_bucket(address: str) -> bool:
    """Whether an address lies in an object store, which can be listed and written."""
    return address.partition("://")[0] in BUCKETS


def split_bucket(address: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of an address in an object store."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def names_a_file(address: str) -> bool:
    """Whether an address in an object store, where there are no folders, is to be a file: by its suffix."""
    return bool(re.search(r"\.[A-Za-z]\w*$", address.partition("://")[2].partition("/")[2]))


def gdal_name(source: str) -> str:
    """What GDAL opens for a source: its own name of an address, everything else as it is."""
    address = address_of(source)
    if address is None:
        return source
    scheme, _, rest = address.partition("://")
    return f"/vsicurl/{address}" if scheme not in BUCKETS else BUCKETS[scheme] + rest


def http_seconds(name: str) -> float:
    """An option of `HTTP` as a number, from the environment where it is set."""
    try:
        return float(os.environ.get(name, HTTP[name]))
    except ValueError:
        return float(HTTP[name])


def gdal_options() -> dict[str, str]:
    """GDAL's options for addresses, as far as the environment does not set them by their own names."""
    options = {**HTTP}
    endpoint = s3_endpoint()
    if endpoint is not None:
        parts = urlsplit(endpoint)
        options["AWS_S3_ENDPOINT"] = f"{parts.netloc}{parts.path}".rstrip("/")
        options["AWS_HTTPS"] = "NO" if parts.scheme == "http" else "YES"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    if _is_set("AWS_SKIP_SIGNATURE"):
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    options |= {own: os.environ[other] for own, other in _SYNONYMS.items() if other in os.environ}
    return {name: value for name, value in options.items() if name not in os.environ}


def s3_endpoint() -> str | None:
    """Address of the S3 server, where that is not Amazon's: `AWS_ENDPOINT_URL`, else GDAL's `AWS_S3_ENDPOINT`."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    host = os.environ.get("AWS_S3_ENDPOINT")
    if not host or "://" in host:
        return host or None
    return f"{'http' if os.environ.get('AWS_HTTPS', '').upper() in _NO else 'https'}://{host}"


def is_unsigned(scheme: str) -> bool:
    """Whether buckets of a scheme are read as anybody may."""
    return any(_is_set(name) for name in _UNSIGNED[scheme])


def s3_virtual_hosts() -> bool:
    """Whether the bucket is part of the host's name: so at Amazon, not with an endpoint of one's own."""
    told = os.environ.get("AWS_VIRTUAL_HOSTING", "")
    return told.upper() not in _NO if told else s3_endpoint() is None


_NO: Final = ("NO", "FALSE", "0", "OFF")
_UNSIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE"),
    "gs": ("GS_NO_SIGN_REQUEST",),
    "az": ("AZURE_NO_SIGN_REQUEST",),
}
_SYNONYMS: Final[Mapping[str, str]] = {
    "AWS_REGION": "AWS_DEFAULT_REGION",
    "CPL_AWS_CREDENTIALS_FILE": "AWS_SHARED_CREDENTIALS_FILE",
}
"""GDAL's name of a variable → that of Amazon's tools."""


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").upper() not in ("", *_NO)
