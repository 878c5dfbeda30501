"""Device and ranks of this process, and communication between ranks: the only file that uses torch.distributed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from co2s_cli.errors import Co2sError, ConfigError, ResourceError
from co2s_cli.inference.model import pick_device

log = logging.getLogger(__name__)

TIMEOUT = timedelta(minutes=10)
"""Longest time for which a rank waits for the others; a validation on one rank may take minutes."""

T = TypeVar("T")

ErrorParts = tuple[int, str, str | None]
"""An error as data that processes exchange: exit code, message and hint."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Device and rank of this process, and what it exchanges with the other processes of the run."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes the files of the run."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, the same on every rank; exact for integers."""
        if self.ranks > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def mean(self, value: float) -> float:
        """The mean of a number over all ranks, the same on every rank."""
        return float(self.summed(torch.tensor([value], dtype=torch.float64, device=self.device))[0]) / self.ranks

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module wrapped by DDP, which averages gradients over the ranks; the module itself on a single rank."""
        if self.ranks == 1:
            return module
        # find_unused_parameters: no loss reaches some parameters of a fully trained backbone, and DDP would wait for
        # their gradients. broadcast_buffers: buffers are constants, and ranks with different numbers of micro-batches
        # in a step would wait for each other's broadcasts.
        return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)

    def wait(self) -> None:
        """Wait until every rank calls this."""
        if self.ranks > 1:
            dist.barrier()

    def from_leader(self, value: T) -> T:
        """The value that rank 0 passes, on every rank; the values of other ranks are ignored."""
        box = [value]
        if self.ranks > 1:
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def agreed(self) -> contextlib.AbstractContextManager[None]:
        """A block that fails on all ranks if it fails on one: the error of one rank is raised by each at its end."""
        if self.ranks == 1:
            return contextlib.nullcontext()

        def gather(error: ErrorParts | None) -> list[ErrorParts | None]:
            errors: list[ErrorParts | None] = [None] * self.ranks
            dist.all_gather_object(errors, error)
            return errors

        return _agreement(gather)


@contextlib.contextmanager
def _agreement(gather: Callable[[ErrorParts | None], Sequence[ErrorParts | None]]) -> Iterator[None]:
    """Raise the error of the block, else one that another process raised there.

    `gather` sends the error of this process, or None, and returns those of all processes.
    """
    own_error: Co2sError | None = None
    try:
        yield
    except LostError:
        raise
    except Co2sError as error:
        own_error = error
    errors = gather((own_error.exit_code, own_error.message, own_error.hint) if own_error else None)
    if own_error:
        raise own_error
    types = {kind.exit_code: kind for kind in Co2sError.__subclasses__()}
    for parts in errors:
        if parts is not None:
            code, message, hint = parts
            raise types.get(code, Co2sError)(message, hint=hint)


def device_name(device: torch.device) -> str:
    """A device for people: the name of the GPU, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type


@contextlib.contextmanager
def started(device: str) -> Iterator[Runtime]:
    """The runtime of this process: a single rank, or one of those that torchrun started, joined to their group."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if ranks == 1:
        yield Runtime(pick_device(device))
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda:"):
        raise ConfigError(
            f"--device {device}: under torchrun each process takes the GPU of its local rank", hint="--device cuda"
        )
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local_rank)
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    with _sigterm_as_error(chosen), _lost_ranks():
        dist.init_process_group(backend, timeout=TIMEOUT, **_rendezvous(rank, ranks))
        log.info("%d processes (%s), none waits for another longer than %s", ranks, backend, TIMEOUT)
        try:
            yield Runtime(chosen, rank, ranks)
        except BaseException:
            _leave_group(backend)
            raise
        dist.destroy_process_group()


def _rendezvous(rank: int, ranks: int) -> dict[str, Any]:
    """Arguments of `init_process_group`: a store in which only the processes of this (re)start find each other.

    torchrun keeps one store over all restarts, in which the addresses of dead processes stay; a prefix with the restart
    count keeps them apart. Empty where torchrun sets no restart count.
    """
    if "TORCHELASTIC_RESTART_COUNT" not in os.environ:
        return {}
    try:
        store, prefix = _torchrun_store()
    except RuntimeError as error:
        raise LostError from error
    store.set_timeout(TIMEOUT)
    return {"store": dist.PrefixStore(f"{prefix} group", store), "rank": rank, "world_size": ranks}  # type: ignore[attr-defined]


def _leave_group(backend: str) -> None:
    """Leave the process group after an error, so that torchrun sees this process end and then ends the others.

    NCCL would wait for all-reduces that other ranks are still in: they are aborted.
    """
    if backend == "nccl":
        dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()


class LostError(ResourceError):
    """Another process of the run has ended, so that this one cannot go on."""

    def __init__(self) -> None:
        super().__init__(
            "another process of the run is gone, or the run was ended from outside",
            hint="look for the error of that process in the output; --resume goes on from the last whole state",
        )


@contextlib.contextmanager
def _lost_ranks() -> Iterator[None]:
    """Turn the errors that torch.distributed raises when another rank ends into `LostError`; gloo: RuntimeError."""
    try:
        yield
    except dist.DistError as error:
        raise LostError from error
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise LostError from error


@contextlib.contextmanager
def _sigterm_as_error(device: torch.device) -> Iterator[None]:
    """Raise `LostError` at SIGTERM, by which torchrun ends all processes once one has ended.

    Not on a GPU: a process that waits for its GPU runs no Python signal handler, so that SIGTERM has to end it at once.
    """
    if device.type == "cuda":
        yield
        return

    def end(*_: object) -> None:
        raise LostError

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _torchrun_store() -> tuple[Any, str]:
    """The key-value store of the torchrun that started this process, and the prefix of this (re)start's keys.

    The store outlives the processes of the run.

    Raises:
        RuntimeError, KeyError, ValueError: no torchrun, or its store cannot be reached.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False
    )
    return store, f"co2s {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _gather_by_store(name: str, value: Any) -> list[Any]:
    """The values of all processes by rank, through torchrun's store; usable before the process group exists.

    `value` is JSON data, `name` tells exchanges apart. Empty where torchrun's store cannot be reached.
    """
    try:
        store, prefix = _torchrun_store()
    except (RuntimeError, KeyError, ValueError):
        return []
    store.set(f"{prefix} {name} {os.environ['RANK']}", json.dumps(value))
    store.set_timeout(TIMEOUT)
    keys = [f"{prefix} {name} {rank}" for rank in range(int(os.environ["WORLD_SIZE"]))]
    try:
        return [json.loads(store.get(key)) for key in keys]
    except RuntimeError as error:  # torchrun has ended, or a process did not send its value in time
        raise LostError from error


def agreed_before(name: str) -> contextlib.AbstractContextManager[None]:
    """As `Runtime.agreed`, for checks before the process group exists; `name` tells such blocks apart."""
    return _agreement(lambda error: _gather_by_store(name, error) or [error])


def leader_says(name: str, value: Any) -> Any:
    """The value that rank 0 passes, on every rank, before the process group exists; `value` is JSON data.

    Raises:
        ConfigError: torchrun's store, through which the processes exchange it, cannot be reached.
    """
    values = _gather_by_store(name, value)
    if not values:
        raise ConfigError(
            "--resume: the processes of this run cannot agree, the store of torchrun is not reached",
            hint="start several processes by torchrun",
        )
    return values[0]


def first_to_say(error: Co2sError) -> bool:
    """Whether this process should print the error that ends it, so that only one process of the run prints each error.

    `LostError` is only printed if no process has printed an error yet. The processes agree through the store of the
    torchrun that started them, which outlives them; where it cannot be reached, each prints its own error.
    """
    # torchrun sends SIGTERM as soon as another process has ended: this one has to print its error first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        store, prefix = _torchrun_store()
        first_error = bool(store.add(prefix, 1) == 1)
        first_of_its_kind = bool(store.add(f"{prefix} {error.message}", 1) == 1)
    except (RuntimeError, KeyError, ValueError):
        return True
    return first_of_its_kind and (first_error or not isinstance(error, LostError))


@contextlib.contextmanager
def without_sync(*modules: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the block, if `wanted`, DDP modules accumulate gradients without averaging them over the ranks.

    For all but the last micro-batch of a step.
    """
    with contextlib.ExitStack() as stack:
        for module in modules:
            if wanted and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield
