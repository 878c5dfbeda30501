"""Cores and memory that are free for a process."""

import os
import subprocess
import sys

import pytest

from co2s_cli.resources import MachineShare, available, cores


def test_a_container_has_less_memory_than_its_machine(tmp_path):
    free = available(tmp_path / "none")
    assert free > 0
    for name, text in [("memory.max", "1000000"), ("memory.current", "900000"), ("memory.stat", "inactive_file 50000")]:
        (tmp_path / name).write_text(text)
    assert available(tmp_path) == 150_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available(tmp_path) == pytest.approx(free, rel=0.2)


_A_PEAK = """
import time
from co2s_cli.resources import peak, resident
with peak() as most:
    big = bytearray(b"1") * 80_000_000
    time.sleep(0.5)  # the watcher is a thread: what holds the interpreter all the while is not seen
    del big
    print(most(), resident())
"""


@pytest.mark.slow
def test_a_peak_between_two_looks_is_seen():
    """In a process of its own: what earlier tests left behind may be given back while this one measures."""
    told = subprocess.run([sys.executable, "-c", _A_PEAK], capture_output=True, text=True, check=True, timeout=120)
    most, now = map(int, told.stdout.split())
    assert 60_000_000 < most < 200_000_000
    assert now > 0


def _write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".", 1)).write_text(text)


def test_the_tightest_of_nested_groups_counts(tmp_path):
    root, process = tmp_path / "cgroup", tmp_path / "self"
    process.write_text("0::/user.slice/job.scope\n")
    _write(root / "user.slice", memory__max="5000000", memory__current="1000000", memory__stat="inactive_file 0")
    _write(root / "user.slice" / "job.scope", memory__max="max", memory__current="900000", memory__stat="anon 1")
    assert available(root, process) == 4_000_000


def test_control_groups_of_version_1_count(tmp_path):
    root, process = tmp_path / "cgroup", tmp_path / "self"
    process.write_text("11:cpu,cpuacct:/job\n9:memory:/slurm/job\n")
    _write(
        root / "memory" / "slurm" / "job",
        memory__limit_in_bytes="3000000",
        memory__usage_in_bytes="2500000",
        memory__stat="total_inactive_file 100000",
    )
    assert available(root, process) == 600_000


def test_a_system_without_affinity_has_all_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert [cores(workers) for workers in (1, 4, 12)] == [6, 1, 1]


def test_the_quota_of_a_container_limits_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    root, process = tmp_path / "cgroup", tmp_path / "self"
    process.write_text("0::/kubepods/pod\n")
    _write(root / "kubepods", cpu__max="800000 100000")
    _write(root / "kubepods" / "pod", cpu__max="max 100000")
    assert cores(1, cgroups=root, process=process) == 8
    assert cores(3, cgroups=root, process=process) == 2
    _write(root / "kubepods" / "pod", cpu__max="150000 100000")
    assert cores(1, cgroups=root, process=process) == 2
    assert cores(1, MachineShare(cores=5), cgroups=root, process=process) == 5
    process.write_text("4:cpu,cpuacct:/job\n")
    _write(root / "cpu" / "job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert cores(1, cgroups=root, process=process) == 3
    _write(root / "cpu" / "job", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cores(1, cgroups=root, process=process) == 64
