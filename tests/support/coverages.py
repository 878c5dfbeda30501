"""Class maps for the tests of polygons, and the polygons of a map cut into blocks of any size."""

from dataclasses import replace

import numpy as np
import shapely
from hypothesis import strategies as st

from co2s_cli.geo.polygons import assemble as polygons
from co2s_cli.geo.polygons import simplify
from co2s_cli.geo.polygons import trace as arcs
from co2s_cli.geo.polygons.regions import OUTSIDE, ValueCounts
from co2s_cli.geo.polygons.stream import blocks_of

WANTED = np.arange(257) < 255


@st.composite
def maps(draw, side=14):
    """Small maps with everything that is hard about borders: checkerboards, thin lines, holes in holes, nodata."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, cols = np.indices((height, width))
    kind = draw(st.sampled_from(["chance", "checkers", "rings", "lines", "blobs", "one"]))
    classes = draw(st.integers(1, 4))
    labels = {
        "chance": lambda: rng.integers(0, classes, (height, width)),
        "checkers": lambda: (rows + cols) % 2,
        "rings": lambda: np.minimum.reduce([rows, cols, height - 1 - rows, width - 1 - cols]) % (classes + 1),
        "lines": lambda: np.where(rng.random((height, width)) < 0.1, 2, (cols % 2) * (rows % 3 > 0)),
        "blobs": lambda: np.kron(rng.integers(0, classes, (height // 3 + 1, width // 3 + 1)), np.ones((3, 3), int))[
            :height, :width
        ],
        "one": lambda: np.zeros((height, width), int),
    }[kind]()
    labels = labels.astype(np.uint8)
    labels[rng.random((height, width)) < draw(st.sampled_from([0.0, 0.0, 0.2, 0.8, 1.0]))] = 255
    return labels


def framed(labels, block):
    """The pixels of a block and one pixel around, as a reader gives them."""
    height, width = labels.shape
    outside = np.full((height + 3, width + 3), OUTSIDE, np.uint16)
    outside[1:-2, 1:-2] = labels
    return outside[block.row : block.bottom + 2, block.col : block.right + 2]


def outlines(labels, block, tolerance=0.0, values=None, columns=None):
    """Polygons in pixels, their classes and their tallies (as pairs of mean and p10), in the order they leave."""
    seams, band, batch, leaving = polygons.SeamJoiner(), polygons.SeamJoiner(), [], []
    height, width = labels.shape
    for area in blocks_of(height, width, rows=block, columns=columns or width):
        sides = [side for side in (area.col, area.right) if 0 < side <= width]
        complete, loose = _cut(labels, area, tolerance, values, sides)
        batch += _plain(complete) if complete else []
        if sides:
            batch += _plain(band.join(loose.transposed()))
        if area.right > width:
            batch += _plain(seams.join(band.open_regions() if sides else loose))
            leaving += sorted(batch, key=lambda item: item[:2])
            band, batch = polygons.SeamJoiner(), []
    shapes = np.array([item[2] for item in leaving], dtype=object)
    return shapes, [item[3] for item in leaving], [item[4] for item in leaving]


def _cut(labels, area, tolerance, values, sides):
    """What is complete in a block, and the rest; of a block without polygons by the shorter way."""
    width, pixels = labels.shape[1], framed(labels, area)
    if not WANTED[pixels].any():
        return None, polygons.no_open_regions(pixels, area, width=width)
    joints = simplify.JOINTS_EVERY if tolerance else 0
    traced = arcs.trace(pixels, area, width=width, joints_every=joints)
    if tolerance:
        traced = replace(traced, arcs=simplify.simplified(traced.arcs, tolerance, sides))
    counts = ValueCounts.none() if values is None else _tally(traced.regions, values, area)
    return polygons.split(traced, counts, area, width=width, wanted=WANTED)


def _tally(found, values, area):
    frame = framed(values, area)
    known = frame != OUTSIDE
    known[0] = known[:, 0] = False
    at = np.flatnonzero(known[:-1, :-1])
    return ValueCounts.of(found.at(at), frame[:-1, :-1].ravel()[at].astype(np.uint8))


def _plain(some):
    count = len(some.info.value)
    if not count:
        return []
    sizes = np.diff(some.rings.starts)
    lines = shapely.linearrings(some.rings.points.astype(float), indices=np.repeat(np.arange(len(sizes)), sizes))
    shapes = shapely.polygons(lines, indices=some.rings.region)
    levels = zip(some.counts.mean(count), some.counts.quantile(count, 0.1), strict=True)
    return list(zip(some.info.bottom, some.info.first, shapes, some.info.value, levels, strict=True))
