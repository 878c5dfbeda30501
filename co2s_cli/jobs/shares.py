"""A static share of the scenes, without any software between the machines: by number, or as the scheduler tells."""

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
    """The scenes of a share: every N-th one, so that neighbours, which are mostly of one size, go to different shares.

    `environment` is what `auto` is read from.

    Raises:
        ConfigError: the environment does not tell which share is wanted.
    """
    if shard is None:
        return scenes
    number, count = (shard.number, shard.count) if shard.number else _told(shard, environment)
    assert number is not None
    assert count is not None
    picked = scenes[number - 1 :: count]
    log.info("share %d of %d: %d of %d scenes", number, count, len(picked), len(scenes))
    return picked


def _told(shard: Shard, environment: Mapping[str, str]) -> tuple[int, int]:
    """Number, from 1, and count of the share that the scheduler gave to this process."""
    for place in (_slurm_array, _slurm_task, _aws_batch, _kubernetes):
        told = place(environment, shard.count)
        if told is not None:
            index, count = told
            break
    else:
        raise ConfigError(
            f"--shard {shard}: this process is part of no array or indexed job",
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


_Told = tuple[int, int | None] | None
"""Index from 0 and count of a share; None where the scheduler is not this one."""


def _slurm_array(environment: Mapping[str, str], count: int | None) -> _Told:
    """A task of a SLURM array, and within it one of several tasks of srun."""
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
    within = _slurm_task(environment, None)
    if within is None or within[1] == 1:
        return task, count
    assert within[1] is not None
    return task * within[1] + within[0], count * within[1]


def _slurm_task(environment: Mapping[str, str], count: int | None) -> _Told:
    """One of the tasks that srun starts. The script of a job is told of tasks too, but is none of them."""
    if "SLURM_PROCID" not in environment:
        return None
    task, tasks = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS", count or 1)
    if tasks > 1 and task == 0 and not environment.keys() & {"SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"}:
        raise ConfigError(
            f"--shard auto: the job has {tasks} tasks (SLURM_NTASKS), and this process is not started by srun",
            hint="put srun before co2s, or ask for --ntasks=1",
        )
    return task, _agreed(count, tasks, "SLURM_NTASKS")


def _aws_batch(environment: Mapping[str, str], count: int | None) -> _Told:
    if "AWS_BATCH_JOB_ARRAY_INDEX" not in environment:
        return None
    size = _number(environment, "AWS_BATCH_JOB_ARRAY_SIZE", count)
    return _number(environment, "AWS_BATCH_JOB_ARRAY_INDEX"), _agreed(count, size, "AWS_BATCH_JOB_ARRAY_SIZE")


def _agreed(count: int | None, told: int, name: str) -> int:
    """The number of shares that the scheduler tells, which one that is given must not contradict."""
    if count not in (None, told):
        raise ConfigError(f"--shard auto/{count}: {name} says {told}", hint="--shard auto takes that number")
    return told


def _kubernetes(environment: Mapping[str, str], count: int | None) -> _Told:
    """A pod of an indexed job; nothing in it says how many there are."""
    if "JOB_COMPLETION_INDEX" not in environment:
        return None
    return _number(environment, "JOB_COMPLETION_INDEX"), count


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise ConfigError(
            f"--shard auto: {name} is {'not set' if text is None else repr(text)}, a number is wanted",
            hint="name the share, such as --shard 3/64",
        )
    return int(text)
