"""Device, ranks and sums over ranks: the only file that knows torch.distributed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from co2s_cli.errors import ConfigError, ResourceError
from co2s_cli.inference.precision import pick_device

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others: a validation on one rank may take minutes."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """This process among those of the run."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on every rank; exact for integers."""
        if self.ranks > 1:
            values = values.clone()
            with _lost_ranks():
                dist.all_reduce(values)
        return values

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks."""
        if self.ranks == 1:
            return module
        # parameters that no loss reaches (a backbone that trains whole has some) must not be waited for
        return DistributedDataParallel(module, find_unused_parameters=True)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.ranks > 1:
            with _lost_ranks():
                dist.barrier()


@contextlib.contextmanager
def started(device: str) -> Iterator[Runtime]:
    """The runtime of this process: alone, or one rank of what torchrun started."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if ranks == 1:
        yield Runtime(pick_device(device))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda:"):
        raise ConfigError(f"--device {device}: under torchrun each process takes the GPU of its number")
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    with _lost_ranks():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Runtime(chosen, rank, ranks)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _lost_ranks() -> Iterator[None]:
    """What the other ranks' end looks like from here, said plainly."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ResourceError(
            f"another process of the run is gone ({reason})", hint="see its own message; --resume goes on"
        ) from error


@contextlib.contextmanager
def without_sync(*modules: nn.Module, wanted: bool) -> Iterator[None]:
    """Gradients stay on their rank in here: for all but the last part of an accumulated step."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if wanted and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield
