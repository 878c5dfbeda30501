"""Units of work on disk: what goes in comes out, and what is cut short counts as missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2s_cli import tiling
from co2s_cli.errors import OutputError
from co2s_cli.inference.parts import Builder, Parts
from co2s_cli.inference.products import Plane

PLANES = (Plane("class", "class"), Plane("probabilities", "probabilities", "float32", 3))


def scene_of(height, width):
    rng = np.random.default_rng(height * 1000 + width)
    return {
        "class": rng.integers(0, 5, (1, height, width)).astype(np.uint8),
        "probabilities": rng.random((3, height, width)).astype(np.float32),
    }


@settings(max_examples=25)  # every part is synced to disk
@given(height=st.integers(1, 50), width=st.integers(1, 30), data=st.data())
def test_strips_of_any_height_become_units_and_units_the_whole(tmp_path_factory, height, width, data):
    band, panel = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    parts = Parts(tmp_path_factory.mktemp("parts"), PLANES)
    planes = scene_of(height, width)
    units = tiling.blocks(height, width, band=band, panel=panel)
    for chain in tiling.chains(units):
        builder = Builder(PLANES, chain)
        row = 0
        while row < height:
            count = min(data.draw(st.integers(1, 20)), height - row)
            cols = slice(chain[0].col, chain[0].right)
            strip = {name: array[:, row : row + count, cols] for name, array in planes.items()}
            for unit, finished in builder.add(row, strip, count):
                assert not parts.has(unit)
                parts.write(unit, finished)
                assert parts.has(unit)
            row += count
    for plane in PLANES:
        strips = list(parts.strips(units, plane))
        assert [row for row, _ in strips] == [row for row, _ in tiling.spans(height, band)]
        np.testing.assert_array_equal(np.concatenate([s for _, s in strips], axis=1), planes[plane.name])


def test_rows_without_a_valid_pixel_are_blank():
    (unit,) = tiling.blocks(4, 5, band=4, panel=5)
    builder = Builder(PLANES, [unit])
    ((_, finished),) = builder.add(0, None, 4)
    assert (finished["class"] == 255).all()
    assert np.isnan(finished["probabilities"]).all()


def test_a_part_that_is_cut_short_or_foreign_counts_as_missing(tmp_path):
    parts = Parts(tmp_path, PLANES)
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    assert not parts.has(unit)
    parts.write(unit, scene_of(8, 8))
    path = parts.path(unit)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert not parts.has(unit)
    path.write_bytes(b"not a part")
    assert not parts.has(unit)
    path.write_bytes(whole)
    assert parts.has(unit)
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_with_damaged_data_is_an_output_error(tmp_path):
    parts = Parts(tmp_path, PLANES)
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    parts.write(unit, scene_of(8, 8))
    path = parts.path(unit)
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(200))
    with pytest.raises(OutputError, match="cannot be read again"):
        list(parts.read(unit, PLANES[1]))


def test_no_folder_is_an_output_error(tmp_path):
    parts = Parts(tmp_path / "gone", PLANES)
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    with pytest.raises(OutputError, match="could not be written"):
        parts.write(unit, scene_of(8, 8))
