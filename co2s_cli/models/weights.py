"""The model file: one .safetensors with a manifest (JSON) and a digest in its metadata. Reading it can run no code."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from co2s_cli.cloud import local_copy
from co2s_cli.errors import SHOWN_CHARACTERS, InputError, ModelError, OutputError, ResourceError, one_line, shown
from co2s_cli.files import atomic_file
from co2s_cli.models.manifest import FORMAT, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from co2s_cli.models.ensemble import Ensemble

MODEL_VARIABLE = "CO2S_MODEL"
START = "start"
"""Stands for the packaged start wherever a model file is named; a file of that name is `./start`."""
_FOREIGN = "not a co2s model file"


def demo_path() -> Path:
    """The demonstration model that travels inside the package."""
    return Path(str(files("co2s_cli.assets").joinpath("demo.safetensors")))


def start_path() -> Path:
    """The student inside the package that a training can begin with."""
    return Path(str(files("co2s_cli.assets").joinpath("start.safetensors")))


def located(path: str | Path) -> Path:
    """The file that `path` names: itself, the copy of an address, or the packaged start for the word `START`."""
    return start_path() if str(path) == START else local_copy(path)


def default_path() -> Path:
    """The model to use when none is named: `$CO2S_MODEL`, else the demonstration model."""
    named = os.environ.get(MODEL_VARIABLE)
    return Path(named) if named else demo_path()


def read_manifest(path: Path) -> Manifest:
    """The manifest of a model file, without its tensors and without torch."""
    path = located(path)
    return _parse(path, _metadata(path))


def load(path: str | Path, device: str | torch.device = "cpu") -> Ensemble:
    """The model in a file, in eval mode on `device`; its digest is checked against its content."""
    import torch
    from safetensors.torch import load_file

    from co2s_cli.models.ensemble import Ensemble
    from co2s_cli.models.weight_files import check_finite

    path = located(path)
    metadata = _metadata(path)
    manifest = _parse(path, metadata)
    tensors = load_file(path, device="cpu")
    digest = _checked_digest(path, metadata, tensors)
    try:
        _check_sizes(manifest, tensors)
        pair = Ensemble(manifest)
        # copied: where a tensor lies in the file decides its alignment, and with that the last bits of what kernels sum
        own = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        pair.load_state_dict(own, strict=True, assign=True)
    except (RuntimeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise ModelError(f"{path}: manifest and tensors do not fit ({one_line(error)})") from error
    check_finite(path, own)
    pair.digest = digest
    try:
        return pair.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ResourceError(f"{device}: the model cannot be put there ({reason})", hint="use the cpu") from error


def check_digest(path: Path) -> None:
    """Refuse a model file whose content is not what its digest says.

    Raises:
        ModelError: it was changed after it was written.
    """
    from safetensors.torch import load_file

    metadata = _metadata(path)
    _parse(path, metadata)
    _checked_digest(path, metadata, load_file(path, device="cpu"))


def _checked_digest(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = digest_of(metadata["manifest"], tensors)
    if metadata.get("digest") != digest:
        raise ModelError(f"{path}: the content does not match its own digest", hint="copy or download the file again")
    return digest


def _check_sizes(manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other sizes than the manifest describes, before memory is taken for what it describes.

    Raises:
        ValueError: a tensor is missing, is not wanted, or has another shape.
    """
    import torch

    from co2s_cli.models.ensemble import Ensemble

    with torch.device("meta"):  # shapes without numbers
        wanted = {name: tuple(tensor.shape) for name, tensor in Ensemble(manifest).state_dict().items()}
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | sizes.keys()):
        if wanted.get(name) != sizes.get(name):
            raise ValueError(
                f"{name}: found {sizes.get(name, 'nothing')}, the manifest says {wanted.get(name, 'none')}"
            )


def save(pair: Ensemble, path: Path, *, half: bool = False) -> str:
    """Write the model file, whole or not at all; returns its digest.

    What only training needs is left out (see `pair.deployed`). Weights that are no finite numbers are refused.
    `half` stores float16, which halves the file and costs the last digits; models are float32 again once loaded.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from co2s_cli.models.ensemble import deployed
    from co2s_cli.models.weight_files import check_finite

    pair = deployed(pair)
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in pair.state_dict().items()}
    check_finite(path, tensors)
    manifest = pair.manifest.model_dump_json()
    digest = digest_of(manifest, tensors)
    metadata = {"format": str(FORMAT), "manifest": manifest, "digest": digest}
    with atomic_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
            _in_order(temporary, metadata)
        except SafetensorError as error:
            raise OutputError(f"{path}: could not be written ({error})") from error
    return digest


def _in_order(path: Path, metadata: Mapping[str, str]) -> None:
    """Write the metadata in their own order: safetensors takes another one each time it writes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = {**json.loads(file.read(size)), "__metadata__": metadata}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # the tensors stay where they are
            file.seek(8)
            file.write(text.ljust(size))


def digest_of(manifest: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the manifest as it is written and every tensor's name, type, shape and bytes."""
    import torch

    total = hashlib.sha256(manifest.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such model file", hint="`co2s train`, `distill` and `import` make one")


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    _check_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: {_FOREIGN}, or cut short ({error})", hint=_hint(path)) from error


def _parse(path: Path, metadata: dict[str, str]) -> Manifest:
    if "manifest" not in metadata:
        raise ModelError(f"{path}: {_FOREIGN} (no manifest in it)", hint=_hint(path))
    try:
        plain: dict[str, Any] = json.loads(metadata["manifest"])
        version = plain.get("format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: its manifest is not JSON") from error
    if version != FORMAT:
        raise ModelError(f"{path}: format {shown(version)}, this co2s reads format {FORMAT}", hint="upgrade co2s")
    try:
        return Manifest.model_validate_json(metadata["manifest"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: bad manifest ({where[:SHOWN_CHARACTERS]}: {one_line(first['msg'])})") from error


def _hint(path: Path) -> str:
    if path.suffix in (".pth", ".pt"):
        return "published checkpoints are read by `co2s import`"
    return "make a model file with `co2s import` or `co2s train`"
