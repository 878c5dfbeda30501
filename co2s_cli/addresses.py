"""Recognise addresses (`https://`, `s3://`, `gs://`, `az://`), and read the environment variables for their access.

GDAL reads pixels, obstore lists buckets and moves whole files. Both obey the same variables: those of Amazon's tools
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
"""Scheme of an object store → prefix of GDAL's names for its objects."""

HTTP: Final[Mapping[str, str]] = {
    # requests that fail with 503 and the like are repeated after 0.3 seconds, then each time after 2 to 2.5 times the
    # last delay; GDAL also repeats after time-outs, so that a host that never answers takes some 45 seconds
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "0.3",
    "GDAL_HTTP_CONNECTTIMEOUT": "4",
    # a server that sends under 1 byte/s for 15 seconds counts as down; there is no limit for the time of a whole file
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "15",
}
"""Retries and time-outs of all libraries, as GDAL's options; a variable of that name in the user's environment wins."""

_ADDRESS: Final = re.compile(r"(https?|s3|gs|az):/{1,2}(?=[^/])")


def address_of(name: str | Path) -> str | None:
    """The address in `name`, None if that is a path; a `Path` has lost one of the two slashes after the scheme."""
    match = _ADDRESS.match(str(name))
    return f"{match[1]}://{str(name)[match.end() :]}" if match else None


def is_bucket(address: str) -> bool:
    """Whether an address is in an object store, which can be listed and written."""
    return address.partition("://")[0] in BUCKETS


def split_bucket(address: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of an address in an object store."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def has_file_suffix(address: str) -> bool:
    """Whether an address in an object store ends in a suffix and so means a file; object stores have no folders."""
    return bool(re.search(r"\.[A-Za-z]\w*$", address.partition("://")[2].partition("/")[2]))


def gdal_name(source: str) -> str:
    """The name by which GDAL opens a source: `/vsi…` for an address, any other name as it is."""
    address = address_of(source)
    if address is None:
        return source
    scheme, _, rest = address.partition("://")
    return f"/vsicurl/{address}" if scheme not in BUCKETS else BUCKETS[scheme] + rest


def http_seconds(name: str) -> float:
    """An option of `HTTP` as a number: from the environment if it is set there, else from `HTTP`."""
    try:
        return float(os.environ.get(name, HTTP[name]))
    except ValueError:
        return float(HTTP[name])


def gdal_options() -> dict[str, str]:
    """GDAL's options for addresses, without those that the environment sets by their own names."""
    options = {**HTTP}
    endpoint = s3_endpoint()
    if endpoint is not None:
        parts = urlsplit(endpoint)
        options["AWS_S3_ENDPOINT"] = f"{parts.netloc}{parts.path}".rstrip("/")
        options["AWS_HTTPS"] = "NO" if parts.scheme == "http" else "YES"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    if _is_set("AWS_SKIP_SIGNATURE"):
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    options |= {option: os.environ[name] for option, name in _SYNONYMS.items() if name in os.environ}
    return {name: value for name, value in options.items() if name not in os.environ}


def s3_endpoint() -> str | None:
    """Address of the S3 server from `AWS_ENDPOINT_URL` or GDAL's `AWS_S3_ENDPOINT`; None for Amazon's."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    host = os.environ.get("AWS_S3_ENDPOINT")
    if not host or "://" in host:
        return host or None
    return f"{'http' if os.environ.get('AWS_HTTPS', '').upper() in _NO else 'https'}://{host}"


def is_unsigned(scheme: str) -> bool:
    """Whether buckets of a scheme are read without credentials."""
    return any(_is_set(name) for name in _UNSIGNED[scheme])


def s3_virtual_hosts() -> bool:
    """Whether the bucket is part of the host's name in requests: by default with Amazon, not with another endpoint."""
    setting = os.environ.get("AWS_VIRTUAL_HOSTING", "")
    return setting.upper() not in _NO if setting else s3_endpoint() is None


_NO: Final = ("NO", "FALSE", "0", "OFF")
"""Values of variables that mean no, in capitals."""
_UNSIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE"),
    "gs": ("GS_NO_SIGN_REQUEST",),
    "az": ("AZURE_NO_SIGN_REQUEST",),
}
"""Scheme → variables that switch credentials off."""
_SYNONYMS: Final[Mapping[str, str]] = {
    "AWS_REGION": "AWS_DEFAULT_REGION",
    "CPL_AWS_CREDENTIALS_FILE": "AWS_SHARED_CREDENTIALS_FILE",
}
"""GDAL's name of a variable → name in Amazon's tools."""


def _is_set(name: str) -> bool:
    """Whether a variable is set to anything but no."""
    return os.environ.get(name, "").upper() not in ("", *_NO)
