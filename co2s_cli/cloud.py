"""Object stores and web servers by obstore: lists, whole files in and out. The only module that knows that library.

It is an optional extra: where it is missing, the one line that says so names the command that brings it.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from co2s_cli.addresses import (
    address_of,
    http_seconds,
    is_bucket,
    is_unsigned,
    s3_endpoint,
    s3_virtual_hosts,
    split_bucket,
)
from co2s_cli.errors import Co2sError, InputError, OutputError, ResourceError, one_line
from co2s_cli.files import appearing

RETRY_SECONDS = 30
"""No request is begun again after so long."""

PART, SIDE_BY_SIDE = 16 << 20, 4
"""Bytes of a part of an upload, and parts on their way at a time."""

UPLOAD_SECONDS = 600
"""Longest time of one part: 27 kB/s are enough."""


def list_objects(address: str, *, deep: bool) -> list[str]:
    """Addresses of all objects in a folder of a bucket, sorted; of all folders in it as well where it is `deep`.

    Raises:
        InputError: no such bucket, no permission, no server.
    """
    scheme, bucket, prefix = split_bucket(address)
    with _failing(address, InputError):
        obstore, store = _bucket(address)
        if deep:
            objects = [meta for chunk in obstore.list(store, prefix or None) for meta in chunk]
        else:
            objects = obstore.list_with_delimiter(store, prefix or None)["objects"]
    return sorted(f"{scheme}://{bucket}/{meta['path']}" for meta in objects)


def local_copy(name: str | Path) -> Path:
    """The file that a name is; of an address a copy on this machine, which is fetched once for each version of it.

    Raises:
        InputError: there is none, no permission, no server.
    """
    address = address_of(name)
    if address is None:
        return Path(name)
    with _failing(address, InputError):
        obstore, store, key = _located(address)
        # a signed https address may be for this one way of asking
        meta = obstore.head(store, key) if is_bucket(address) else obstore.get(store, key).meta
        version = hashlib.sha256(repr((address, meta["e_tag"], meta["size"], meta["last_modified"])).encode())
        folder = cache_folder() / "fetched" / version.hexdigest()[:20]
        path = folder / address.partition("?")[0].rpartition("/")[2]
        if not path.is_file():
            _make(folder)
            with appearing(path) as temporary, temporary.open("wb") as file:
                for chunk in obstore.get(store, key).stream():
                    file.write(chunk)
    return path


def read_bytes(address: str, limit: int) -> bytes:
    """The whole of an object that is small enough to be held.

    Raises:
        InputError: there is none, larger than `limit` bytes, no permission, no server.
    """
    with _failing(address, InputError):
        obstore, store, key = _located(address)
        answer = obstore.get(store, key)
        if answer.meta["size"] > limit:
            raise InputError(f"{address}: has {answer.meta['size']} bytes, at most {limit} are read")
        return bytes(answer.bytes())


def stored_attributes(address: str) -> Mapping[str, str] | None:
    """What is kept with an object in a bucket, by name; None where there is no such object.

    Raises:
        OutputError: no such bucket, no permission, no server.
    """
    with _failing(address, OutputError):
        obstore, store, key = _located(address)
        try:
            attributes: Mapping[str, str] = obstore.get(store, key, options={"head": True}).attributes
        except FileNotFoundError:
            _check_bucket(*split_bucket(address)[:2])
            return None
    return attributes


@functools.cache
def _check_bucket(scheme: str, bucket: str) -> None:
    """Raise where there is no such bucket, which the answer about an object does not tell; asked once."""
    obstore, store = _bucket(f"{scheme}://{bucket}")
    with contextlib.suppress(*_denied()):  # who may write may still not be allowed to list
        obstore.list_with_delimiter(store, ".co2s")


def _denied() -> tuple[type[Exception], ...]:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    return PermissionDeniedError, UnauthenticatedError


def upload(path: Path, address: str, attributes: Mapping[str, str]) -> None:
    """Store a file in a bucket, whole or not at all, with what is kept beside its content.

    Raises:
        OutputError: no such bucket, no permission, no server.
    """
    with _failing(address, OutputError):
        obstore, store, key = _located(address, uploading=True)
        with path.open("rb") as file:
            obstore.put(store, key, file, attributes=dict(attributes), chunk_size=PART, max_concurrency=SIDE_BY_SIDE)


def cache_folder() -> Path:
    """Where copies and unfinished work lie that belong to no folder of the user's."""
    root = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # no home
        return (Path(root) if root else Path.home() / ".cache") / "co2s"
    return Path(tempfile.gettempdir()) / f"co2s-{os.getuid()}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error


def _located(address: str, *, uploading: bool = False) -> tuple[Any, Any, str]:
    """The library, a store, and the key of an address in it."""
    if is_bucket(address):
        return *_bucket(address, uploading=uploading), split_bucket(address)[2]
    obstore, stores = _imported(address)
    return obstore, stores.HTTPStore(address, **_patience(uploading=False)), ""  # the query of an address is part of it


def _bucket(address: str, *, uploading: bool = False) -> tuple[Any, Any]:
    """The library, and the store of a bucket."""
    obstore, stores = _imported(address)
    scheme, bucket, _ = split_bucket(address)
    kinds: dict[str, Callable[..., Any]] = {"s3": stores.S3Store, "gs": stores.GCSStore, "az": stores.AzureStore}
    configs = {"s3": _s3_config, "gs": dict[str, Any], "az": _azure_config}
    unsigned = {"skip_signature": True} if is_unsigned(scheme) else {}
    config = {**configs[scheme](), **unsigned}
    return obstore, kinds[scheme](bucket, config=config, **_patience(uploading=uploading))


def _imported(address: str) -> tuple[Any, Any]:
    try:
        import obstore
        from obstore import store
    except ImportError as error:
        raise ResourceError(
            f"{address}: needs the package obstore, which is not installed", hint="pip install 'co2s_cli[cloud]'"
        ) from error
    return obstore, store


def _patience(*, uploading: bool) -> dict[str, Any]:
    """Time-outs and retries, as GDAL has them; the time of an upload is for a whole part."""
    silence = timedelta(seconds=http_seconds("GDAL_HTTP_LOW_SPEED_TIME"))
    return {
        "client_options": {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=http_seconds("GDAL_HTTP_CONNECTTIMEOUT")),
            "timeout": timedelta(seconds=UPLOAD_SECONDS if uploading else 24 * 3600),
            **({} if uploading else {"read_timeout": silence}),
        },
        "retry_config": {"max_retries": 10, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }


def _s3_config() -> dict[str, Any]:
    """Of S3, what the library does not take from the environment by itself."""
    endpoint = s3_endpoint()
    return {
        **({} if "AWS_ACCESS_KEY_ID" in os.environ else _profile()),
        **({"endpoint": endpoint} if endpoint else {}),
        "virtual_hosted_style_request": s3_virtual_hosts() and endpoint is None,
    }


def _profile() -> dict[str, str]:
    """Keys of the profile in use, from the files that Amazon's tools and GDAL read."""
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    parser = configparser.ConfigParser(interpolation=None)
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    with contextlib.suppress(OSError, RuntimeError, configparser.Error, UnicodeDecodeError):
        parser.read(os.environ.get(own) or Path.home() / ".aws" / file for own, file in files.items())
    known = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "token",
        "region": "region",
    }
    sections = [section for section in (name, f"profile {name}") if parser.has_section(section)]
    values = {own: parser[section][key] for section in sections for key, own in known.items() if key in parser[section]}
    if "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ:
        values.pop("region", None)
    return values


def _azure_config() -> dict[str, Any]:
    """Of Azure, the names that GDAL has for what the library calls otherwise."""
    names = {"AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_ACCESS_KEY": "account_key"}
    return {own: os.environ[name] for name, own in names.items() if name in os.environ}


@contextlib.contextmanager
def _failing(address: str, kind: type[Co2sError]) -> Iterator[None]:
    """What the library raises becomes one line about the address."""
    try:
        yield
    except Co2sError:
        raise
    except FileNotFoundError as error:
        _refuse(error, address, kind)
    except Exception as error:
        if not type(error).__module__.startswith("obstore") and not isinstance(error, ValueError):
            raise
        _refuse(error, address, kind)


def _refuse(error: Exception, address: str, kind: type[Co2sError]) -> NoReturn:
    text = str(error).partition("\n\nDebug source")[0]
    bucket = split_bucket(address)[1]
    endpoint = s3_endpoint()
    server = f"AWS_ENDPOINT_URL says {endpoint}" if endpoint else "AWS_ENDPOINT_URL names another server than Amazon's"
    server_hint = server if address.startswith("s3") else None
    told: tuple[tuple[str, str, str | None], ...] = (
        ("NoSuchBucket", f"there is no bucket {bucket}", server_hint),
        ("169.254.169.254", "no credentials were found", _CREDENTIALS),
        ("metadata.google", "no credentials were found", "GOOGLE_APPLICATION_CREDENTIALS names a file with them"),
        ("403 Forbidden", "no permission (403)", _CREDENTIALS if address.startswith("s3") else None),
        ("401 Unauthorized", "no permission (401)", None),
        ("404 Not Found", "is not there (404)", None),
        ("error sending request", "the server cannot be reached, or does not answer", server_hint),
        ("error decoding response body", "the server broke off its answer", None),
        ("503 ", "the server is overloaded (503), also when asked again", "try again later"),
    )
    for mark, message, hint in told:
        if mark in text:
            raise kind(f"{address}: {message}", hint=hint) from error
    raise kind(f"{address}: {one_line(text)}") from error


_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, say who asks; "
    "AWS_NO_SIGN_REQUEST=YES reads what is public"
)
