import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from support.coverages import maps, outlines

from co2s_cli.geo.polygons import simplify
from co2s_cli.geo.polygons.simplify import lattice_rows

TOLERANCES = st.sampled_from([0.5, 1.0, 1.5, 3.0, 10.0])


@pytest.fixture(autouse=True)
def _joints_close_by(monkeypatch):
    monkeypatch.setattr(simplify, "JOINTS_EVERY", 4)


def blobs(side, scale, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal((side, side)), scale) for _ in range(classes)]
    return np.argmax(fields, axis=0).astype(np.uint8)


@given(maps(side=18), TOLERANCES, st.sampled_from([3, 5, 8, None]))
def test_simplified_polygons_are_a_valid_coverage_of_the_same_regions(labels, tolerance, columns):
    shapes, values, _ = outlines(labels, block=len(labels))
    simple, simple_values, _ = outlines(labels, block=400, tolerance=tolerance, columns=columns)
    assert simple_values == values
    assert shapely.is_valid(simple).all()
    assert shapely.coverage_is_valid(simple)
    assert shapely.get_num_interior_rings(simple).tolist() == shapely.get_num_interior_rings(shapes).tolist()


@given(maps(side=18), TOLERANCES, st.sampled_from([4, 8, 12]), st.sampled_from([3, 5, 8, None]))
def test_simplified_polygons_do_not_depend_on_the_rows_of_blocks(labels, tolerance, block, columns):
    whole, _, _ = outlines(labels, block=400, tolerance=tolerance, columns=columns)
    cut, _, _ = outlines(labels, block=block, tolerance=tolerance, columns=columns)
    assert [shape.wkb for shape in cut] == [shape.wkb for shape in whole]


@pytest.mark.parametrize(("scale", "tolerance"), [(6, 1.5), (6, 3.0), (1.2, 1.5), (12, 1.0)])
def test_as_many_vertices_stay_as_geos_keeps(monkeypatch, scale, tolerance):
    monkeypatch.setattr(simplify, "JOINTS_EVERY", 256)
    labels = blobs(300, scale)
    shapes, _, _ = outlines(labels, block=256)
    ours = shapely.get_num_coordinates(outlines(labels, block=256, tolerance=tolerance)[0]).sum()
    theirs = shapely.get_num_coordinates(shapely.coverage_simplify(shapes, tolerance)).sum()
    assert 0.8 * theirs < ours < 1.2 * theirs < 0.8 * shapely.get_num_coordinates(shapes).sum()


def test_two_borders_between_the_same_nodes_do_not_fall_together():
    labels = np.zeros((3, 12), np.uint8)
    labels[1, 2:10] = 1
    labels[2] = 2
    simple, values, _ = outlines(labels, block=400, tolerance=50)
    assert sorted(values) == [0, 1, 2]
    assert shapely.coverage_is_valid(simple)


@given(st.lists(st.tuples(*[st.integers(-6, 6)] * 6), min_size=1, max_size=5))
def test_lattice_rows_hold_the_points_inside_triangles(corners):
    triangles = np.array(corners, dtype=np.int64).reshape(-1, 3, 2)
    found = {
        (which, x, row)
        for which, row, first, last in zip(*lattice_rows(triangles), strict=True)
        for x in range(first, last + 1)
    }
    grid = [(x, y) for x in range(-6, 7) for y in range(-6, 7)]
    expected = {(which, x, y) for which, triangle in enumerate(triangles) for x, y in grid if inside(triangle, x, y)}
    assert found == expected


def inside(triangle, x, y):
    sides = [
        (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        for (ax, ay), (bx, by) in zip(triangle, np.roll(triangle, -1, axis=0), strict=True)
    ]
    (low_x, low_y), (high_x, high_y) = triangle.min(axis=0), triangle.max(axis=0)
    boxed = low_x <= x <= high_x and low_y <= y <= high_y
    return boxed and (all(side >= 0 for side in sides) or all(side <= 0 for side in sides))
