import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio import features
from support.coverages import maps, outlines


@given(maps())
def test_polygons_are_those_of_gdal_and_a_valid_coverage(labels):
    shapes, values, _ = outlines(labels, block=len(labels))
    theirs = [(shapely.geometry.shape(shape), int(value)) for shape, value in features.shapes(labels, labels != 255)]
    assert len(shapes) == len(theirs)
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    for shape, value in theirs:
        same = [one for one, mine in zip(shapes, values, strict=True) if mine == value and one.bounds == shape.bounds]
        assert any(one.equals(shape) for one in same)


@given(maps(), st.integers(1, 6), st.integers(1, 6) | st.none())
def test_polygons_and_their_order_are_the_same_for_every_size_of_blocks(labels, block, columns):
    shapes, values, _ = outlines(labels, block=len(labels))
    cut_shapes, cut_values, _ = outlines(labels, block=block, columns=columns)
    assert [shape.wkb for shape in cut_shapes] == [shape.wkb for shape in shapes]
    assert cut_values == values


@given(maps(), st.integers(1, 6))
def test_the_area_of_a_class_is_the_number_of_its_pixels(labels, block):
    shapes, values, _ = outlines(labels, block=block)
    for value in np.unique(labels):
        area = sum(shape.area for shape, mine in zip(shapes, values, strict=True) if mine == value)
        assert area == (np.sum(labels == value) if value < 255 else 0)


@given(maps(side=9), st.integers(1, 4), st.integers(1, 4) | st.none())
def test_confidences_are_those_of_the_pixels_inside(labels, block, columns):
    levels = np.random.default_rng(3).integers(0, 255, labels.shape).astype(np.uint8)
    shapes, _, told = outlines(labels, block=block, values=levels, columns=columns)
    for shape, (mean, p10) in zip(shapes, told, strict=True):
        inside = levels[features.rasterize([shape], labels.shape) == 1]
        np.testing.assert_allclose(mean, inside.mean())
        assert p10 == np.quantile(inside, 0.1, method="inverted_cdf")


def test_a_region_that_meets_itself_at_a_corner_has_a_hole_there_and_not_a_knot():
    labels = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], np.uint8)
    shapes, values, _ = outlines(labels, block=1)
    (one,) = [shape for shape, value in zip(shapes, values, strict=True) if value == 1]
    assert one.is_valid
    assert len(one.interiors) == 2
