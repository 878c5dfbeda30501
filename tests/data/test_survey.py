"""Blocks drawn to validate: the same as one by one, and quickly where there are many."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.data.survey import Block, held_out, share_of
from co2s_cli.errors import InputError
from co2s_cli.tiling import Window


def blocks_of(counts):
    place = Window(0, 0, 8, 8)
    return [Block(index, place, place, place, tuple(row), "") for index, row in enumerate(counts.tolist())]


def one_by_one(counts, share, seed):
    """Numbers of the blocks that validate, drawn as the words of `held_out` say."""
    order = np.random.default_rng([seed, len(counts)]).permutation(len(counts)).tolist()
    chosen = []
    while counts[chosen].sum() < share * counts.sum() and len(chosen) < len(counts) - 1:
        lacking = counts[chosen].sum(axis=0) == 0
        left = [place for place in order if place not in chosen]
        chosen.append(max(left, key=lambda place: int((counts[place, lacking] > 0).sum())))
    return sorted(chosen)


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 7), st.floats(0.01, 0.99), st.floats(0, 0.95))
def test_the_blocks_that_validate_are_those_drawn_one_by_one(seed, number, classes, share, empty):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 100, (number, classes)) * (rng.random((number, classes)) >= empty)
    train, out = held_out(blocks_of(counts), share, seed)
    assert [block.source for block in out] == one_by_one(counts, share, seed)
    assert sorted(block.source for block in (*train, *out)) == list(range(number))


@given(st.integers(0, 2**32), st.integers(1, 20), st.floats(0.01, 0.9), st.floats(0, 0.1))
def test_a_share_of_the_blocks_holds_the_smaller_ones(seed, number, share, more):
    blocks = blocks_of(np.random.default_rng(seed).integers(1, 100, (number, 3)))
    small, large = share_of(blocks, share, seed), share_of(blocks, share + more, seed)
    assert {block.source for block in small} <= {block.source for block in large}
    total = sum(sum(block.counts) for block in blocks)
    assert sum(sum(block.counts) for block in small) >= share * total * (1 - 1e-9)


def test_a_block_that_has_labels_in_its_rim_alone_does_not_validate():
    blocks = [replace(block, core=None) for block in blocks_of(np.ones((3, 2), int))]
    with pytest.raises(InputError, match=r"3 blocks with labels found, .* pixels and more from the edge"):
        held_out(blocks, 0.5, 0)
    blocks[1] = replace(blocks[1], core=blocks[1].cell)
    train, out = held_out(blocks, 0.9, 0)
    assert ([block.source for block in train], [block.source for block in out]) == ([0, 2], [1])


def test_many_blocks_are_drawn_in_no_time():
    counts = np.random.default_rng(0).integers(0, 1000, (20_000, 6))
    blocks = blocks_of(counts)
    begin = time.perf_counter()
    _, out = held_out(blocks, 0.2, 0)
    assert time.perf_counter() - begin < 3  # seconds; one by one it takes many times that
    assert 0.2 <= counts[[block.source for block in out]].sum() / counts.sum() < 0.201
