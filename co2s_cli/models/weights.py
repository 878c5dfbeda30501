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
"""Name of the packaged start model wherever a model file can be given; a file of that name is `./start`."""
_FOREIGN = "not a co2s model file"


def demo_path() -> Path:
    """The demonstration model in the package."""
    return Path(str(files("co2s_cli.assets").joinpath("demo.safetensors")))


def start_path() -> Path:
    """The start model in the package, a student that a training can start from."""
    return Path(str(files("co2s_cli.assets").joinpath("start.safetensors")))


def local_file(path: str | Path) -> Path:
    """The local file for `path`: itself, a downloaded copy if it is an address, or the start model if it is `START`."""
    return start_path() if str(path) == START else local_copy(path)


def default_path() -> Path:
    """The model to use if none is given: `$CO2S_MODEL`, else the demonstration model."""
    from_environment = os.environ.get(MODEL_VARIABLE)
    return Path(from_environment) if from_environment else demo_path()


def read_manifest(path: Path) -> Manifest:
    """The manifest of a model file; reads no tensors and does not import torch.

    Raises:
        InputError: there is no such file.
        ModelError: it is no model file, or its manifest is not valid.
    """
    path = local_file(path)
    return _parse(path, _metadata(path))


def load(path: str | Path, device: str | torch.device = "cpu") -> Ensemble:
    """The model in a file, in eval mode on `device`, after a check of its digest.

    Raises:
        InputError: there is no such file.
        ModelError: it is no model file, is damaged, or its weights are not finite.
        ResourceError: the device cannot hold the model.
    """
    import torch
    from safetensors.torch import load_file

    from co2s_cli.models.ensemble import Ensemble
    from co2s_cli.models.weight_files import check_finite

    path = local_file(path)
    metadata = _metadata(path)
    manifest = _parse(path, metadata)
    tensors = load_file(path, device="cpu")
    digest = _checked_digest(path, metadata, tensors)
    try:
        _check_sizes(manifest, tensors)
        model = Ensemble(manifest)
        # copied, because a tensor's position in the file decides its alignment and so the last bits of kernels' sums
        state = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        model.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise ModelError(f"{path}: manifest and tensors do not fit ({one_line(error)})") from error
    check_finite(path, state)
    model.digest = digest
    try:
        return model.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ResourceError(f"{device}: cannot hold the model ({reason})", hint="--device cpu") from error


def check_digest(path: Path) -> None:
    """Refuse a model file whose content does not match its digest.

    Raises:
        ModelError: the file was changed after it was written.
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
    """Refuse tensors whose shapes differ from those of the manifest's model, before memory is allocated for the model.

    Raises:
        ValueError: a tensor is missing, has no place in the model, or has another shape.
    """
    import torch

    from co2s_cli.models.ensemble import Ensemble

    with torch.device("meta"):  # only the shapes are needed: no memory for weights
        wanted = {name: tuple(tensor.shape) for name, tensor in Ensemble(manifest).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{name}: found {found.get(name, 'nothing')}, the manifest says {wanted.get(name, 'none')}"
            )


def save(model: Ensemble, path: Path, *, half: bool = False) -> str:
    """Write a model file, whole or not at all; returns its digest.

    Layers that only training needs are left out, see `ensemble.deployed`. `half` stores float16: half the file size, at
    the cost of the last digits; a loaded model is float32 again.

    Raises:
        ModelError: weights are NaN or infinite.
        OutputError: the file could not be written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from co2s_cli.models.ensemble import deployed
    from co2s_cli.models.weight_files import check_finite

    model = deployed(model)
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    check_finite(path, tensors)
    manifest = model.manifest.model_dump_json()
    digest = digest_of(manifest, tensors)
    metadata = {"format": str(FORMAT), "manifest": manifest, "digest": digest}
    with atomic_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
            _rewrite_metadata(temporary, metadata)
        except SafetensorError as error:
            raise OutputError(f"{path}: could not be written ({error})") from error
    return digest


def _rewrite_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Rewrite the metadata in the order of `metadata`: safetensors writes them in a random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = {**json.loads(file.read(size)), "__metadata__": metadata}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # fits into the old header, so that no tensor has to move
            file.seek(8)
            file.write(text.ljust(size))


def digest_of(manifest: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the manifest's JSON text and the name, type, shape and bytes of every tensor."""
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
        content: dict[str, Any] = json.loads(metadata["manifest"])
        version = content.get("format")
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
