"""What a memory limit allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.errors import ResourceError
from co2s_cli.inference.memory import GRAIN, WIDE_ENOUGH, MemoryNeeds, fit_panel, least_limit, pick_limit

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
