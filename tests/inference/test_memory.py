"""What a memory limit allows."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.errors import ResourceError
from co2s_cli.inference.memory import (
    GRAIN,
    WIDE_ENOUGH,
    MemoryNeeds,
    available,
    cores,
    fit_panel,
    least_limit,
    pick_limit,
)

needs = st.builds(MemoryNeeds, base=st.integers(0, 10**9), lane=st.integers(1, 10**9), column=st.integers(1, 100_000))


@given(needs=needs, width=st.integers(1, 200_000), lanes=st.integers(1, 64), limit=st.integers(1, 20 * 10**9))
def test_what_fits_keeps_to_the_limit_and_nothing_fits_below_the_smallest(needs, width, lanes, limit):
    found = fit_panel(limit, needs, width=width, lanes=lanes)
    if limit < least_limit(needs, width) - 1:
        assert found is None
        return
    if limit >= least_limit(needs, width):
        assert found is not None
    if found is not None:
        assert needs.total(found.lanes, found.panel) <= limit + 1
        assert found.panel == width or found.panel % GRAIN == 0
        assert 1 <= found.lanes <= lanes
        assert found.lanes == 1 or found.panel >= min(width, WIDE_ENOUGH)


def test_more_memory_first_widens_panels_then_adds_lanes_then_widens_further():
    needs = MemoryNeeds(base=0, lane=10**6, column=1000)
    seen = [fit_panel(limit, needs, width=100_000, lanes=2) for limit in (2 * 10**6, 5 * 10**6, 7 * 10**6, 10**9)]
    assert [(one.lanes, one.panel) for one in seen] == [(1, 512), (1, 3584), (2, 4096), (2, 100_000)]


def test_a_limit_is_kept_or_refused_with_the_smallest_that_works():
    assert pick_limit(3 * 10**9, 10**9, free=10**12) == (3 * 10**9, None)
    with pytest.raises(ResourceError) as caught:
        pick_limit(10**9, 1_234_567_890, free=10**12)
    assert "--mem-limit 1260MB" in caught.value.hint


def test_without_a_limit_it_is_half_of_what_is_free_and_at_most_8_gb():
    assert pick_limit(None, 1, free=6 * 10**9) == (3 * 10**9, None)
    assert pick_limit(None, 1, free=10**12) == (8 * 10**9, None)


def test_what_the_smallest_panel_needs_is_taken_and_said():
    limit, remark = pick_limit(None, 5 * 10**9, free=6 * 10**9)
    assert limit == 5 * 10**9
    assert "raised from 3 GB to 5 GB" in remark
    with pytest.raises(ResourceError, match="are needed"):
        pick_limit(None, 7 * 10**9, free=6 * 10**9)


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
from co2s_cli.inference.memory import peak, resident
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
        (folder / name.replace("__", ".")).write_text(text)


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
