"""A fixed share of the scenes for one process, by number or by the scheduler's environment variables (--shard)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TypeVar

from co2s_cli.config.shard import Shard
from co2s_cli.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")

_SCHEDULERS = "a SLURM array or srun, an AWS Batch array, or a Kubernetes job with completionMode Indexed"


def share_of(scenes: Sequence[T], shard: Shard | None, environment: Mapping[str, str]) -> Sequence[T]:
    """The scenes of a share: every N-th one, since neighbours in a list are often of similar size.

    For `auto` the share is read from the variables in `environment`.

    Raises:
        ConfigError: the variables do not tell which share this process has.
    """
    if shard is None:
        return scenes
    number, count = (shard.number, shard.count) if shard.number else _share_by_scheduler(shard, environment)
    assert number is not None
    assert count is not None
    share = scenes[number - 1 :: count]
    log.info("share %d of %d: %d of %d scenes", number, count, len(share), len(scenes))
    return share


def _share_by_scheduler(shard: Shard, environment: Mapping[str, str]) -> tuple[int, int]:
    """Number of this process's share, from 1, and number of shares, by the scheduler's variables."""
    for read_scheduler in (_slurm_array, _slurm_task, _aws_batch, _kubernetes):
        share = read_scheduler(environment, shard.count)
        if share is not None:
            index, count = share
            break
    else:
        raise ConfigError(
            f"--shard {shard}: this process is not part of an array or an indexed job",
            hint=f"start it by {_SCHEDULERS}; or name the share, such as --shard 3/64",
        )
    if count is None:
        raise ConfigError(
            f"--shard {shard}: Kubernetes does not tell how many shares there are", hint="--shard auto/64"
        )
    if not 0 <= index < count:
        raise ConfigError(
            f"--shard {shard}: the index of this process is {index}, {count} shares have 0 to {count - 1}",
            hint="with auto/N the indices of an array begin at 0 and end at N - 1, such as --array=0-63",
        )
    return index + 1, count


_SchedulerShare = tuple[int, int | None] | None
"""Index of a share, from 0, and number of shares if known; None: the process was not started by this scheduler."""


def _slurm_array(environment: Mapping[str, str], count: int | None) -> _SchedulerShare:
    """The share of a task of a SLURM array; if the task runs several tasks by srun, they divide it further."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    if count is None:
        first, step = _number(environment, "SLURM_ARRAY_TASK_MIN"), _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
        count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
        if (task - first) % step or (task - first) // step >= count:
            raise ConfigError(
                f"--shard auto: SLURM_ARRAY_TASK_ID is {task}, and the array has gaps",
                hint="--array=0-63 with --shard auto/64 keeps the shares where only some tasks are run again",
            )
        task = (task - first) // step
    srun_task = _slurm_task(environment, None)
    if srun_task is None or srun_task[1] == 1:
        return task, count
    assert srun_task[1] is not None
    return task * srun_task[1] + srun_task[0], count * srun_task[1]


def _slurm_task(environment: Mapping[str, str], count: int | None) -> _SchedulerShare:
    """The share of a task that srun started. The batch script has the same variables, but is not such a task."""
    if "SLURM_PROCID" not in environment:
        return None
    task, tasks = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS", count or 1)
    if tasks > 1 and task == 0 and not environment.keys() & {"SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"}:
        raise ConfigError(
            f"--shard auto: the job has {tasks} tasks (SLURM_NTASKS), and this process is not started by srun",
            hint="put srun before co2s, or ask for --ntasks=1",
        )
    return task, _agreed(count, tasks, "SLURM_NTASKS")


def _aws_batch(environment: Mapping[str, str], count: int | None) -> _SchedulerShare:
    """The share of a child of an AWS Batch array job."""
    if "AWS_BATCH_JOB_ARRAY_INDEX" not in environment:
        return None
    size = _number(environment, "AWS_BATCH_JOB_ARRAY_SIZE", count)
    return _number(environment, "AWS_BATCH_JOB_ARRAY_INDEX"), _agreed(count, size, "AWS_BATCH_JOB_ARRAY_SIZE")


def _agreed(count: int | None, scheduler_count: int, name: str) -> int:
    """The scheduler's number of shares, from the variable `name`; refused if the user gave another `count`."""
    if count not in (None, scheduler_count):
        raise ConfigError(f"--shard auto/{count}: {name} is {scheduler_count}", hint="--shard auto takes that number")
    return scheduler_count


def _kubernetes(environment: Mapping[str, str], count: int | None) -> _SchedulerShare:
    """The share of a pod of an indexed Kubernetes job; its variables do not hold the number of pods."""
    if "JOB_COMPLETION_INDEX" not in environment:
        return None
    return _number(environment, "JOB_COMPLETION_INDEX"), count


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """The whole number in a variable; `default` if it is not set.

    Raises:
        ConfigError: the variable holds no number, or is not set and there is no default.
    """
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise ConfigError(
            f"--shard auto: {name} is {'not set' if text is None else repr(text)}, a number is wanted",
            hint="name the share, such as --shard 3/64",
        )
    return int(text)
