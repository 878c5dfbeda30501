"""Which rank computes which crops of a step, in how many passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.data.loader import BatchPlan
from co2s_cli.errors import ConfigError


@given(
    batch=st.integers(1, 20),
    accumulate=st.integers(1, 3),
    began=st.integers(1, 8),
    ranks=st.integers(1, 8),
    apart=st.booleans(),
)
def test_all_ranks_together_compute_each_crop_of_a_step_once(batch, accumulate, began, ranks, apart):
    """In passes no larger than those of the ranks that began the run; shares with losses of their own stay whole."""
    share = -(-batch // began)
    plan = BatchPlan(0, batch, 64, ranks=ranks, accumulate=accumulate, share=share, apart=apart)
    if ranks > (len(plan.shares) if apart else batch * accumulate):
        with pytest.raises(ConfigError, match=f"too few for {ranks} processes"):
            plan.passes(0)
        return
    by_rank = [plan.passes(rank) for rank in range(ranks)]
    crops = [(part.batch, slot) for passes in by_rank for part in passes for slot in part.slots]
    assert crops == [(number, slot) for number in range(accumulate) for slot in range(batch)]
    assert all(len(part.slots) <= share for passes in by_rank for part in passes)
    assert min(map(len, by_rank)) > 0
    loads = [sum(len(part.slots) for part in passes) for passes in by_rank]
    if apart:
        assert [part for passes in by_rank for part in passes] == plan.shares
    else:
        assert max(loads) - min(loads) <= 1


@given(batch=st.integers(1, 12), began=st.integers(1, 4))
def test_the_mirrored_place_is_one_of_the_same_share(batch, began):
    plan = BatchPlan(0, batch, 64, share=-(-batch // began), partner="flip")
    for share in plan.shares:
        assert [plan.mirrored(slot) for slot in share.slots] == [*reversed(share.slots)]
