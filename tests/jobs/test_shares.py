"""Static shares: together everything, each scene once, and what the schedulers' environments say."""

import logging

import pytest

from co2s_cli.config.shard import Shard, parse_shard
from co2s_cli.errors import ConfigError
from co2s_cli.jobs.shares import share_of

SCENES = list(range(10))


def picked(text, **environment):
    return list(share_of(SCENES, parse_shard(text), environment))


@pytest.mark.parametrize("count", [1, 3, 10, 64])
def test_shares_are_together_everything_and_no_scene_is_in_two(count):
    shares = [picked(f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(scene for share in shares for scene in share) == SCENES
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "3/", "/3", "auto/", "auto/0", "1/0", "-1/3", "1/3/5", "x"])
def test_what_names_no_share_is_refused(text):
    with pytest.raises(ValueError, match="K-th"):
        parse_shard(text)


def test_without_a_share_all_scenes_are_made():
    assert share_of(SCENES, None, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}) == SCENES


ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
SRUN = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}
BATCH = {"AWS_BATCH_JOB_ARRAY_INDEX": "2"}


@pytest.mark.parametrize(
    ("text", "environment", "share"),
    [
        ("auto", {**ARRAY, "SLURM_ARRAY_TASK_ID": "3"}, "3/4"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "5",
                  "SLURM_ARRAY_TASK_STEP": "2"}, "3/5"),
        ("auto/8", {**ARRAY, "SLURM_ARRAY_TASK_ID": "0"}, "1/8"),
        ("auto", {**ARRAY, "SLURM_ARRAY_TASK_ID": "3", **SRUN}, "6/8"),
        ("auto", {**ARRAY, "SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "3/4"),
        ("auto/4", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "0"}, "4/4"),
        ("auto", SRUN, "2/2"),
        ("AUTO/2", SRUN, "2/2"),
        ("auto", {**BATCH, "AWS_BATCH_JOB_ARRAY_SIZE": "5"}, "3/5"),
        ("auto/5", BATCH, "3/5"),
        ("auto/64", {"JOB_COMPLETION_INDEX": "7"}, "8/64"),
    ],
)  # fmt: skip
def test_the_scheduler_tells_the_share(text, environment, share):
    assert picked(text, **environment) == picked(share)


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("auto", {}, "not part of an array or an indexed job"),
        ("auto", {"JOB_COMPLETION_INDEX": "7"}, "does not tell how many"),
        ("auto", BATCH, "AWS_BATCH_JOB_ARRAY_SIZE is not set"),
        ("auto/7", {**BATCH, "AWS_BATCH_JOB_ARRAY_SIZE": "5"}, "AWS_BATCH_JOB_ARRAY_SIZE is 5"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, "4 shares have 0 to 3"),
        ("auto/4", {"SLURM_ARRAY_TASK_ID": "4"}, "4 shares have 0 to 3"),
        ("auto", {**ARRAY, "SLURM_ARRAY_TASK_ID": "9"}, "has gaps"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID is 'x'"),
        ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "not started by srun"),
        ("auto/3", SRUN, "SLURM_NTASKS is 2"),
    ],
)
def test_what_the_environment_does_not_tell_is_one_line(text, environment, message):
    with pytest.raises(ConfigError, match=message) as caught:
        picked(text, **environment)
    assert caught.value.hint


def test_an_empty_share_says_so(caplog):
    with caplog.at_level(logging.INFO):
        assert picked("11/64") == []
    assert "share 11 of 64: 0 of 10 scenes" in caplog.text


def test_a_share_is_shown_as_it_is_typed():
    assert [str(parse_shard(text)) for text in ("3/64", "auto", "auto/5")] == ["3/64", "auto", "auto/5"]
    assert parse_shard(Shard(1, 2)) == Shard(1, 2)
