"""Access to object stores and web servers with obstore: list buckets, download and upload whole files.

This is the only module that imports obstore, which is an optional extra; if it is missing, the error names the command
that installs it.
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
from co2s_cli.files import atomic_file

RETRY_SECONDS = 30
"""Time after the first attempt of a request in which it may be repeated."""

PART_BYTES, CONCURRENT_PARTS = 16 << 20, 4
"""Bytes of each part of an upload, and number of parts that are uploaded at the same time."""

UPLOAD_SECONDS = 600
"""Longest time for one part, which 27 kB/s suffice to keep."""


def list_objects(address: str, *, deep: bool) -> list[str]:
    """Addresses of all objects in a folder of a bucket, sorted; if `deep` also of those in its subfolders.

    Raises:
        InputError: the bucket does not exist, permission is missing, or the server cannot be reached.
    """
    scheme, bucket, prefix = split_bucket(address)
    with _translated_errors(address, InputError):
        obstore, store = _bucket(address)
        if deep:
            objects = [meta for chunk in obstore.list(store, prefix or None) for meta in chunk]
        else:
            objects = obstore.list_with_delimiter(store, prefix or None)["objects"]
    return sorted(f"{scheme}://{bucket}/{meta['path']}" for meta in objects)


def local_copy(name: str | Path) -> Path:
    """The path that `name` is; for an address the path of a copy on this machine, downloaded once for each version.

    Raises:
        InputError: the file does not exist, permission is missing, or the server cannot be reached.
    """
    address = address_of(name)
    if address is None:
        return Path(name)
    with _translated_errors(address, InputError):
        obstore, store, key = _located(address)
        # a signed https address may be valid for GET requests only
        meta = obstore.head(store, key) if is_bucket(address) else obstore.get(store, key).meta
        version = hashlib.sha256(repr((address, meta["e_tag"], meta["size"], meta["last_modified"])).encode())
        folder = cache_folder() / "fetched" / version.hexdigest()[:20]
        path = folder / address.partition("?")[0].rpartition("/")[2]
        if not path.is_file():
            _create(folder)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                for chunk in obstore.get(store, key).stream():
                    file.write(chunk)
    return path


def read_bytes(address: str, limit: int) -> bytes:
    """The content of an object of at most `limit` bytes.

    Raises:
        InputError: the object does not exist or is larger, permission is missing, or the server cannot be reached.
    """
    with _translated_errors(address, InputError):
        obstore, store, key = _located(address)
        response = obstore.get(store, key)
        if response.meta["size"] > limit:
            raise InputError(f"{address}: has {response.meta['size']} bytes, at most {limit} are read")
        return bytes(response.bytes())


def stored_attributes(address: str) -> Mapping[str, str] | None:
    """The attributes that are stored with an object in a bucket, by name; None if the object does not exist.

    Raises:
        OutputError: the bucket does not exist, permission is missing, or the server cannot be reached.
    """
    with _translated_errors(address, OutputError):
        obstore, store, key = _located(address)
        try:
            attributes: Mapping[str, str] = obstore.get(store, key, options={"head": True}).attributes
        except FileNotFoundError:
            _check_bucket(*split_bucket(address)[:2])
            return None
    return attributes


@functools.cache
def _check_bucket(scheme: str, bucket: str) -> None:
    """Raise if a bucket does not exist, which the reply about a missing object does not say; checked once a bucket."""
    obstore, store = _bucket(f"{scheme}://{bucket}")
    with contextlib.suppress(*_denied()):  # a user who may write need not be allowed to list
        obstore.list_with_delimiter(store, ".co2s")


def _denied() -> tuple[type[Exception], ...]:
    """Exceptions of obstore for a missing permission."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    return PermissionDeniedError, UnauthenticatedError


def upload(path: Path, address: str, attributes: Mapping[str, str]) -> None:
    """Upload a file to a bucket, whole or not at all, with attributes that are stored with it.

    Raises:
        OutputError: the bucket does not exist, permission is missing, or the server cannot be reached.
    """
    with _translated_errors(address, OutputError):
        obstore, store, key = _located(address, uploading=True)
        with path.open("rb") as file:
            obstore.put(
                store, key, file, attributes=dict(attributes), chunk_size=PART_BYTES, max_concurrency=CONCURRENT_PARTS
            )


def cache_folder() -> Path:
    """The folder for downloaded copies and for unfinished work that belongs to no output folder."""
    root = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # the user has no home folder
        return (Path(root) if root else Path.home() / ".cache") / "co2s"
    return Path(tempfile.gettempdir()) / f"co2s-{os.getuid()}"


def _create(folder: Path) -> None:
    """Create a folder in the cache."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error


def _located(address: str, *, uploading: bool = False) -> tuple[Any, Any, str]:
    """The module obstore, the store of an address, and the key of the address in that store."""
    if is_bucket(address):
        return *_bucket(address, uploading=uploading), split_bucket(address)[2]
    obstore, stores = _imported(address)
    return obstore, stores.HTTPStore(address, **_timeouts(uploading=False)), ""  # the query of an address is part of it


def _bucket(address: str, *, uploading: bool = False) -> tuple[Any, Any]:
    """The module obstore, and the store of a bucket."""
    obstore, stores = _imported(address)
    scheme, bucket, _ = split_bucket(address)
    store_types: dict[str, Callable[..., Any]] = {"s3": stores.S3Store, "gs": stores.GCSStore, "az": stores.AzureStore}
    configs = {"s3": _s3_config, "gs": dict[str, Any], "az": _azure_config}
    unsigned = {"skip_signature": True} if is_unsigned(scheme) else {}
    config = {**configs[scheme](), **unsigned}
    return obstore, store_types[scheme](bucket, config=config, **_timeouts(uploading=uploading))


def _imported(address: str) -> tuple[Any, Any]:
    """The modules obstore and obstore.store."""
    try:
        import obstore
        from obstore import store
    except ImportError as error:
        raise ResourceError(
            f"{address}: needs the package obstore, which is not installed", hint="pip install 'co2s_cli[cloud]'"
        ) from error
    return obstore, store


def _timeouts(*, uploading: bool) -> dict[str, Any]:
    """Time-outs and retries, the same as GDAL's; an upload has a time-out for each whole part."""
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
    """Settings of S3 that obstore does not take from the environment by itself."""
    endpoint = s3_endpoint()
    return {
        **({} if "AWS_ACCESS_KEY_ID" in os.environ else _profile()),
        **({"endpoint": endpoint} if endpoint else {}),
        "virtual_hosted_style_request": s3_virtual_hosts() and endpoint is None,
    }


def _profile() -> dict[str, str]:
    """Credentials and region of the profile in use, from the files that Amazon's tools and GDAL read."""
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    parser = configparser.ConfigParser(interpolation=None)
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    with contextlib.suppress(OSError, RuntimeError, configparser.Error, UnicodeDecodeError):
        parser.read(os.environ.get(variable) or Path.home() / ".aws" / file for variable, file in files.items())
    obstore_names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "token",
        "region": "region",
    }
    sections = [section for section in (name, f"profile {name}") if parser.has_section(section)]
    values = {
        name: parser[section][key]
        for section in sections
        for key, name in obstore_names.items()
        if key in parser[section]
    }
    if "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ:
        values.pop("region", None)
    return values


def _azure_config() -> dict[str, Any]:
    """Settings of Azure from variables that GDAL knows and obstore does not."""
    obstore_names = {"AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_ACCESS_KEY": "account_key"}
    return {name: os.environ[variable] for variable, name in obstore_names.items() if variable in os.environ}


@contextlib.contextmanager
def _translated_errors(address: str, error_type: type[Co2sError]) -> Iterator[None]:
    """Turn exceptions of obstore into an error of type `error_type` with one line about the address."""
    try:
        yield
    except Co2sError:
        raise
    except FileNotFoundError as error:
        _refuse(error, address, error_type)
    except Exception as error:
        if not type(error).__module__.startswith("obstore") and not isinstance(error, ValueError):
            raise
        _refuse(error, address, error_type)


def _refuse(error: Exception, address: str, error_type: type[Co2sError]) -> NoReturn:
    """Raise an error of type `error_type` that explains an exception of obstore."""
    text = str(error).partition("\n\nDebug source")[0]
    bucket = split_bucket(address)[1]
    endpoint = s3_endpoint()
    server = (
        f"AWS_ENDPOINT_URL says {endpoint}" if endpoint else "for another server than Amazon's set AWS_ENDPOINT_URL"
    )
    server_hint = server if address.startswith("s3") else None
    explanations: tuple[tuple[str, str, str | None], ...] = (
        ("NoSuchBucket", f"there is no bucket {bucket}", server_hint),
        ("169.254.169.254", "no credentials were found", _CREDENTIALS),
        ("metadata.google", "no credentials were found", "set GOOGLE_APPLICATION_CREDENTIALS to a file with them"),
        ("403 Forbidden", "no permission (403)", _CREDENTIALS if address.startswith("s3") else None),
        ("401 Unauthorized", "no permission (401)", None),
        ("404 Not Found", "does not exist (404)", None),
        ("error sending request", "the server cannot be reached, or does not answer", server_hint),
        ("error decoding response body", "the server broke off its answer", None),
        ("503 ", "the server is overloaded (503), also after several attempts", "try again later"),
    )
    for phrase, message, hint in explanations:
        if phrase in text:
            raise error_type(f"{address}: {message}", hint=hint) from error
    raise error_type(f"{address}: {one_line(text)}") from error


_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; "
    "AWS_NO_SIGN_REQUEST=YES reads public buckets without credentials"
)
