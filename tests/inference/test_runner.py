"""What the sliding window promises: untiled values, the same bits whatever the cut, nothing run in vain."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made import (
    ArrayScene,
    constant,
    engine,
    landcover,
    lattice,
    pointwise,
    positional,
    random_scene,
    runner,
    untiled,
    whole,
)

from co2s_cli import tiling
from co2s_cli.errors import ResourceError
from co2s_cli.inference.engine import repeatable
from co2s_cli.tiling import Window

EVERYTHING = ("confidence", "probabilities", "disagreement")
sizes = st.integers(1, 70)
quick = settings(max_examples=40)


@st.composite
def cuts(draw, overlaps=2):
    """Size, tile, overlap (up to tile / overlaps), and an area inside."""
    height, width, tile = draw(sizes), draw(sizes), draw(st.integers(2, 40))
    overlap = draw(st.integers(0, tile // overlaps))
    row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    area = Window(row, col, draw(st.integers(1, height - row)), draw(st.integers(1, width - col)))
    return height, width, tile, overlap, area


def full(height, width):
    return Window(0, 0, height, width)


@quick
@given(cut=cuts())
def test_a_constant_model_makes_a_constant_map(cut):
    height, width, tile, overlap, _ = cut
    product = landcover()
    scene = random_scene(height, width)
    values, valid = whole(runner(scene, constant, product, tile=tile, overlap=overlap), full(height, width))
    assert valid.all()
    np.testing.assert_allclose(values, 0.25, atol=1e-6)
    # an exact tie of all classes goes to the lowest id at every pixel
    assert (product.decide(torch.from_numpy(values))["class"].numpy() == 0).all()


@quick
@given(cut=cuts(), fusion=st.sampled_from(["mean", "confident", "clip", "dino"]))
def test_a_pointwise_model_gives_what_it_gives_untiled(cut, fusion):
    height, width, tile, overlap, _ = cut
    product = landcover(fusion=fusion, wanted=EVERYTHING)
    scene = random_scene(height, width)
    values, _ = whole(runner(scene, pointwise, product, tile=tile, overlap=overlap), full(height, width))
    expected = untiled(scene, pointwise, product)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    best = np.sort(expected[:4], axis=0)
    clear = best[-1] - best[-2] > 1e-5
    np.testing.assert_array_equal(values[:4].argmax(0)[clear], expected[:4].argmax(0)[clear])


@quick
@given(cut=cuts(overlaps=1.3), lanes=st.integers(1, 3), threads=st.integers(1, 2), batch=st.integers(1, 3))
def test_an_area_has_the_same_bits_as_the_same_place_of_the_whole(cut, lanes, threads, batch):
    height, width, tile, overlap, area = cut
    overlap = min(int(overlap), tile - 1)
    scene = random_scene(height, width, holes=True)
    product = landcover(wanted=EVERYTHING)
    with repeatable():
        one, valid = whole(
            runner(scene, positional, product, tile=tile, overlap=overlap, batch=batch), full(height, width)
        )
        some, some_valid = whole(
            runner(scene, positional, product, tile=tile, overlap=overlap, lanes=lanes, threads=threads, batch=batch),
            area,
        )
    np.testing.assert_array_equal(some_valid, valid[area.slices])
    np.testing.assert_array_equal(valid, scene.valid)
    np.testing.assert_array_equal(some[:, some_valid], one[:, area.slices[0], area.slices[1]][:, some_valid])


def test_windows_without_a_valid_pixel_are_not_run_and_impossible_ones_not_read():
    valid = np.zeros((64, 64), bool)
    valid[40:44, 50:60] = True
    scene = ArrayScene(random_scene(64, 64).pixels, valid)
    product = landcover()
    grid = lattice(scene, tile=16, overlap=0)
    run = runner(scene, pointwise, product, tile=16, overlap=0)
    values, found = whole(run, full(64, 64))
    assert (run.pace.read, run.pace.ran) == (16, 1)
    may_be_valid = np.zeros_like(grid.may_be_valid)
    may_be_valid[2, 3] = True
    sparing = runner(scene, pointwise, product, tile=16, overlap=0, may_be_valid=may_be_valid)
    again, _ = whole(sparing, full(64, 64))
    assert (sparing.pace.read, sparing.pace.ran) == (1, 1)
    np.testing.assert_array_equal(found, valid)
    np.testing.assert_array_equal(values, again)


def test_blank_windows_do_not_unsettle_their_neighbours():
    """Weights that are counted along the way go wrong where a window is left out; here nothing is counted."""
    scene = random_scene(48, 80)
    scene.valid[:, 30:50] = False
    product = landcover()
    values, valid = whole(runner(scene, pointwise, product, tile=16, overlap=8), full(48, 80))
    expected = untiled(scene, pointwise, product)
    np.testing.assert_allclose(values[:, valid], expected[:, valid], atol=1e-6)


def test_a_window_keeps_its_slot_in_any_area():
    scene = random_scene(60, 60)
    grid = lattice(scene, tile=16, overlap=4)
    every = {(key.down, key.across): key.rank for key in grid.keys(full(60, 60))}
    assert sorted(every.values()) == list(range(len(grid.plan)))
    for unit in tiling.blocks(60, 60, band=20, panel=25):
        keys = list(grid.keys(unit))
        assert len(keys) == grid.count(unit)
        assert all(every[key.down, key.across] == key.rank for key in keys)


def test_batches_are_all_of_one_size_and_carry_the_windows_own_pixels():
    seen = []

    def spy(images):
        seen.append(len(images))
        return pointwise(images)

    scene = random_scene(50, 50)
    product = landcover()
    values, _ = whole(runner(scene, spy, product, tile=16, overlap=4, batch=4), full(50, 50))
    assert set(seen) == {4}
    np.testing.assert_allclose(values, untiled(scene, pointwise, product), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_scaling_on_the_device_is_the_same_for_every_sample_type(dtype):
    scene = random_scene(9, 9, dtype=dtype)
    product = landcover()
    values, _ = whole(runner(scene, pointwise, product, tile=16, overlap=4), full(9, 9))
    np.testing.assert_allclose(values, untiled(scene, pointwise, product), atol=1e-6)


def test_out_of_memory_halves_the_batch_and_says_so():
    notes = []

    def greedy(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return pointwise(images)

    product = landcover()
    made = engine(greedy, product, batch=8, note=notes.append)
    pixels = [(slot, np.full((3, 4, 4), slot, np.uint8)) for slot in range(8)]
    values = made.run(pixels)
    expected = engine(pointwise, product, batch=8).run(pixels)
    torch.testing.assert_close(values, expected)
    assert made.forward_size == 2
    assert len(notes) == 2


def test_two_threads_out_of_memory_at_once_halve_the_batch_once():
    both, notes = threading.Barrier(2, timeout=30), []

    def greedy(images):
        if len(images) > 1:
            both.wait()
            raise torch.OutOfMemoryError
        return pointwise(images)

    product = landcover()
    made = engine(greedy, product, batch=2, note=notes.append)
    pixels = [(slot, np.full((3, 4, 4), slot, np.uint8)) for slot in range(2)]
    expected = engine(pointwise, product, batch=2).run(pixels)
    with ThreadPoolExecutor(2) as threads:
        for values in threads.map(made.run, [pixels, pixels]):
            torch.testing.assert_close(values, expected)
    assert made.forward_size == 1
    assert len(notes) == 1


def test_a_window_that_never_fits_is_a_resource_error():
    def greedy(images):
        raise torch.OutOfMemoryError

    with pytest.raises(ResourceError, match="not even one window"):
        engine(greedy, landcover(), batch=2).run([(0, np.zeros((3, 4, 4), np.uint8))])


def test_an_error_of_a_reader_or_of_the_model_comes_out_and_leaves_no_thread():
    def broken(images):
        raise ValueError("broken model")

    scene = random_scene(60, 60)
    with pytest.raises(ValueError, match="broken model"):
        whole(runner(scene, broken, landcover(), tile=16, overlap=4, lanes=2, threads=2), full(60, 60))


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with repeatable():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), RuntimeError("MPS backend out of memory")])
@pytest.mark.parametrize("stage", ["_copied", "_scaled", "_members"])
def test_out_of_memory_halves_the_batch_wherever_it_happens(monkeypatch, stage, error):
    product = landcover()
    tight = engine(pointwise, product, batch=8)
    real = getattr(tight, stage)

    def greedy(pixels):
        if len(pixels) > 2:
            raise error
        return real(pixels)

    monkeypatch.setattr(tight, stage, greedy)
    if stage == "_copied":
        monkeypatch.setattr(tight, "_to_device", greedy)
    pixels = [(slot, np.full((3, 4, 4), slot, np.uint8)) for slot in range(8)]
    torch.testing.assert_close(tight.run(pixels), engine(pointwise, product, batch=8).run(pixels))
    assert tight.forward_size == 2


def test_after_a_failure_windows_that_wait_are_not_read():
    begun, failed, read = threading.Event(), threading.Event(), []

    class Slow(ArrayScene):
        """Two batches of eight and a window are read at once, the next one only after the model has failed."""

        def read(self, window):
            read.append(window)
            if len(read) > 17:
                begun.set()
                failed.wait(30)
            return ArrayScene.read(self, window)

    def broken(images):
        begun.wait(30)
        threading.Timer(0.2, failed.set).start()
        raise ValueError("broken model")

    scene = Slow(random_scene(200, 200).pixels, np.ones((200, 200), bool))
    with pytest.raises(ValueError, match="broken model"):
        whole(runner(scene, broken, landcover(), tile=16, overlap=4, batch=8), full(200, 200))
    assert len(read) == 18
