"""`co2s suggest` as a user runs it, and what becomes of its boxes."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from support.models import NAMES, save_tiny
from support.rasters import noise, write_raster

from co2s_cli.classes import ClassMap
from co2s_cli.geo.labels.labelled_mask import open_mask
from co2s_cli.geo.labels.labels import open_labels
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

SIDE = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def scene(tmp_path):
    """96 × 128 pixels of 10 m, a fourth of them nodata."""
    values = noise((3, 96, 128), seed=1)
    values[:, 48:, :64] = 0
    return write_raster(
        tmp_path / "scene.tif", values, nodata=0, crs="EPSG:32632", transform=(10, 0, 500_000, 0, -10, 5_000_000)
    )


def suggest(co2s, scene, model, out, *extra):
    return co2s(
        "suggest", scene, "--model", model, *([] if "--out" in extra else ["--out", out]),
        "--count", 6, "--size", SIDE, "--precision", "fp32", *extra,
    )  # fmt: skip


def pixels_of(boxes, grid):
    """First row and column, and side, of each box."""
    bounds = boxes.geometry.bounds.to_numpy()
    cols, rows = grid.pixel_of(bounds[:, 0], bounds[:, 3])
    return np.rint(np.stack([rows, cols], axis=1)).astype(int), np.rint((bounds[:, 2] - bounds[:, 0]) / 10)


@pytest.mark.slow
def test_boxes_lie_on_data_without_labels_and_can_be_filled_in(co2s, tmp_path, scene, model):
    out, grid = tmp_path / "next.gpkg", Scene.open(str(scene)).original
    known = geopandas.GeoDataFrame(
        {"class": ["water", None]},
        geometry=[
            shapely.box(500_005, 4_999_900, 500_165, 4_999_990),
            shapely.box(500_900, 4_999_000, 501_280, 5_000_000),
        ],
        crs=32632,
    )
    known.to_file(tmp_path / "known.gpkg")
    result = suggest(co2s, scene, model, out, "--labels", tmp_path / "known.gpkg", "--json")
    assert result.exit_code == 0, result.stderr
    told, boxes = json.loads(result.stdout), geopandas.read_file(out)
    assert boxes["rank"].tolist() == list(range(1, 7))
    assert boxes["class"].isna().all()
    assert set(boxes["map_class"]) | set(boxes["guess_clip"]) | set(boxes["guess_dino"]) <= set(NAMES)
    assert set(boxes["reason"]) <= {"disagreement", "uncertainty"}
    corners, sides = pixels_of(boxes, grid)
    assert corners.tolist() == [[place["row"], place["col"]] for place in told["places"]]
    assert (sides == SIDE).all()
    assert all(row < 48 or col >= 64 for row, col in corners), "on nodata"
    assert not any(row == 0 and col < 32 for row, col in corners), "on labels"
    assert any(col >= 80 for _, col in corners), "a polygon without class is no label"
    assert "to do" in out.with_suffix(".qml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir() if "next" in path.name) == ["next.gpkg", "next.qml"]

    boxes.loc[2, "class"] = "town"
    boxes.to_file(tmp_path / "filled.gpkg")
    labels = open_labels(tmp_path / "filled.gpkg", grid, ClassMap.of(NAMES), attribute="class", values={})
    with labels.reader() as reader:
        read = reader.read(Window(0, 0, 96, 128))
    row, col = corners[2]
    assert (read[row : row + SIDE, col : col + SIDE] == 3).all()
    assert (read != 255).sum() == SIDE**2, "the others are left out"


@pytest.mark.slow
def test_one_student_is_told_and_the_same_command_is_not_run_twice(co2s, tmp_path, scene):
    one, out = save_tiny(tmp_path / "one.safetensors", students=("dino",)), tmp_path / "next.geojson"
    assert suggest(co2s, scene, one, out).exit_code == 0
    boxes = geopandas.read_file(out)
    assert set(boxes["reason"]) == {"uncertainty (the model has one student)"}
    assert not {"disagreement", "guess_dino"} & set(boxes.columns)
    result = suggest(co2s, scene, one, out)
    assert result.exit_code == 4
    assert "--overwrite" in result.stderr


@pytest.mark.slow
def test_a_map_without_a_free_place_is_kept_for_the_next_size(co2s, tmp_path, scene, model):
    labels = write_raster(
        tmp_path / "labels.tif", np.zeros((1, 96, 128), np.uint8), crs="EPSG:32632",
        transform=(10, 0, 500_000, 0, -10, 5_000_000),
    )  # fmt: skip
    out = tmp_path / "next.gpkg"
    result = suggest(co2s, scene, model, out, "--labels", labels)
    assert result.exit_code == 3
    assert "--values 0=none" in result.stderr
    assert (tmp_path / "next.gpkg.parts" / "class.tif").exists()
    result = suggest(co2s, scene, model, out, "--labels", labels, "--values", "0=none")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "next.gpkg.parts").exists()


def test_what_cannot_be_is_refused_early(co2s, tmp_path, scene, model):
    for extra, code, told in (
        (["--out", tmp_path / "next.shp"], 2, ".gpkg .fgb .geojson"),
        (["--out", tmp_path / "none" / "next.gpkg"], 4, "mkdir"),
        (["--labels", tmp_path / "none.gpkg"], 3, "no such label file"),
        (["--size", "200"], 3, "no place of 200 × 200"),
        (["--size", "3ha"], 2, "1.5px or 2m"),
        (["--count", "0"], 2, "--count"),
    ):
        result = suggest(co2s, scene, model, tmp_path / "next.gpkg", *extra)
        assert result.exit_code == code, result.stderr
        assert told in result.stderr
    assert not list(tmp_path.glob("next*"))


def test_what_a_polygon_touches_is_labelled(tmp_path, scene):
    grid = Scene.open(str(scene)).original
    speck = geopandas.GeoDataFrame(
        {"kind": [7]}, geometry=[shapely.box(500_001, 4_999_998, 500_002, 4_999_999)], crs=32632
    )
    speck.to_file(tmp_path / "speck.gpkg")
    mask = open_mask(tmp_path / "speck.gpkg", grid, attribute="class", values={})
    assert mask.read(Window(0, 0, 4, 4)).sum() == 1
    assert (
        not open_mask(tmp_path / "speck.gpkg", grid, attribute="kind", values={7: None}).read(Window(0, 0, 4, 4)).any()
    )


def test_nan_is_no_label(tmp_path, scene):
    with rasterio.open(scene) as file:
        profile = {**file.profile, "count": 1, "dtype": "float32", "nodata": None}
    values = np.full((profile["height"], profile["width"]), np.nan, np.float32)
    values[1, 2] = 3
    with rasterio.open(tmp_path / "labels.tif", "w", **profile) as file:
        file.write(values, 1)
    mask = open_mask(tmp_path / "labels.tif", Scene.open(str(scene)).original, attribute="class", values={})
    assert np.argwhere(mask.read(Window(0, 0, 4, 4))).tolist() == [[1, 2]]
