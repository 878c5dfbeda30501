"""Device, ranks and sums over ranks: the only file that knows torch.distributed."""

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
"""How long a rank waits for the others: a validation on one rank may take minutes."""

T = TypeVar("T")

Refusal = tuple[int, str, str | None]
"""Exit code, message and hint of an error."""


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
            dist.all_reduce(values)
        return values

    def mean(self, value: float) -> float:
        """The mean of a number over all ranks, on every rank."""
        return float(self.summed(torch.tensor([value], dtype=torch.float64, device=self.device))[0]) / self.ranks

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks."""
        if self.ranks == 1:
            return module
        # parameters that no loss reaches (a backbone that trains whole has some) must not be waited for; buffers are
        # constants, and sending them anew would be waited for by ranks that make their step in another number of passes
        return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.ranks > 1:
            dist.barrier()

    def from_leader(self, value: T) -> T:
        """The value of rank 0 on every rank; those of others do not count."""
        box = [value]
        if self.ranks > 1:
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def agreed(self) -> contextlib.AbstractContextManager[None]:
        """A block whose errors end all ranks: what one refuses in it, each raises at its end."""
        if self.ranks == 1:
            return contextlib.nullcontext()

        def gathered(word: Refusal | None) -> list[Refusal | None]:
            words: list[Refusal | None] = [None] * self.ranks
            dist.all_gather_object(words, word)
            return words

        return _agreement(gathered)


@contextlib.contextmanager
def _agreement(exchanged: Callable[[Refusal | None], Sequence[Refusal | None]]) -> Iterator[None]:
    """Raise what the block raises, or else what another process raises there. `exchanged` gives each one's error."""
    refused: Co2sError | None = None
    try:
        yield
    except LostError:
        raise
    except Co2sError as error:
        refused = error
    words = exchanged((refused.exit_code, refused.message, refused.hint) if refused else None)
    if refused:
        raise refused
    kinds = {kind.exit_code: kind for kind in Co2sError.__subclasses__()}
    for word in words:
        if word is not None:
            code, message, hint = word
            raise kinds.get(code, Co2sError)(message, hint=hint)


def device_name(device: torch.device) -> str:
    """What a person calls a device: the name of the GPU, or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type


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
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    with _heard(chosen), _lost_ranks():
        dist.init_process_group(backend, timeout=TIMEOUT, **_meeting_point(rank, ranks))
        log.info("%d processes (%s), none waits for another longer than %s", ranks, backend, TIMEOUT)
        try:
            yield Runtime(chosen, rank, ranks)
        except BaseException:
            _leave_at_once(backend)
            raise
        dist.destroy_process_group()


def _meeting_point(rank: int, ranks: int) -> dict[str, Any]:
    """Where the processes find each other: a place of this start of theirs in the store of torchrun.

    It keeps one store over all starts, in which the addresses of dead processes stay.
    """
    if "TORCHELASTIC_RESTART_COUNT" not in os.environ:
        return {}
    try:
        store, prefix = _torchrun()
    except RuntimeError as error:
        raise LostError from error
    store.set_timeout(TIMEOUT)
    return {"store": dist.PrefixStore(f"{prefix} group", store), "rank": rank, "world_size": ranks}  # type: ignore[attr-defined]


def _leave_at_once(backend: str) -> None:
    """Leave the other ranks after an error, so that torchrun sees this process end and ends the others.

    NCCL would wait for the sums that the others are still in; what it has begun is given up instead.
    """
    if backend == "nccl":
        dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()


class LostError(ResourceError):
    """Another process of the run is no more."""

    def __init__(self) -> None:
        super().__init__(
            "another process of the run is gone, or the run was ended from outside",
            hint="what that process said last, if anything, says why; --resume goes on from the last whole state",
        )


@contextlib.contextmanager
def _lost_ranks() -> Iterator[None]:
    """What the other ranks' end looks like from here, said plainly: gloo tells it by a plain RuntimeError."""
    try:
        yield
    except dist.DistError as error:
        raise LostError from error
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise LostError from error


@contextlib.contextmanager
def _heard(device: torch.device) -> Iterator[None]:
    """SIGTERM, by which torchrun ends all processes once one is gone, ends this one as any error would.

    Not so on a GPU: a process that waits for its GPU does not come to hear it, and is better ended at once.
    """
    if device.type == "cuda":
        yield
        return

    def end(*_: object) -> None:
        raise LostError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _torchrun() -> tuple[Any, str]:
    """The store of the torchrun that started this process, which outlives its processes; what keys begin with there.

    Raises:
        RuntimeError, KeyError, ValueError: there is none to reach.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False
    )
    return store, f"co2s {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _exchanged(name: str, word: Any) -> list[Any]:
    """The words of all processes by rank, before they are a group; none where no torchrun is reached."""
    try:
        store, prefix = _torchrun()
    except (RuntimeError, KeyError, ValueError):
        return []
    store.set(f"{prefix} {name} {os.environ['RANK']}", json.dumps(word))
    store.set_timeout(TIMEOUT)
    keys = [f"{prefix} {name} {rank}" for rank in range(int(os.environ["WORLD_SIZE"]))]
    try:
        return [json.loads(store.get(key)) for key in keys]
    except RuntimeError as error:  # its torchrun has ended, or a process has not come in time
        raise LostError from error


def agreed_before(name: str) -> contextlib.AbstractContextManager[None]:
    """As `Runtime.agreed`, for what is checked before the processes are a group; `name` tells blocks apart."""
    return _agreement(lambda word: _exchanged(name, word) or [word])


def leader_says(name: str, value: Any) -> Any:
    """The value of rank 0, plain data, before the processes are a group.

    Raises:
        ConfigError: no torchrun is reached, over which the processes could agree.
    """
    said = _exchanged(name, value)
    if not said:
        raise ConfigError(
            "--resume: the processes of this run cannot agree, the store of torchrun is not reached",
            hint="start several processes by torchrun",
        )
    return said[0]


def first_to_say(error: Co2sError) -> bool:
    """Whether this process is to tell of an error that ends it: each one is told by one process of the run.

    That others are gone need not be told where one of them has said why. The processes agree over the store of the
    torchrun that started them, which outlives them; where there is none to reach, each tells its own.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends it as soon as another has ended: not before it spoke
    try:
        store, prefix = _torchrun()
        silence = bool(store.add(prefix, 1) == 1)
        news = bool(store.add(f"{prefix} {error.message}", 1) == 1)
    except (RuntimeError, KeyError, ValueError):
        return True
    return news and (silence or not isinstance(error, LostError))


@contextlib.contextmanager
def without_sync(*modules: nn.Module, wanted: bool) -> Iterator[None]:
    """Gradients stay on their rank in here: for all but the last part of an accumulated step."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if wanted and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield
