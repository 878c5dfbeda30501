"""`jobs.vectorize` from file to file: every format, attributes, grids, bad input."""

import contextlib
import json
import os
import sqlite3
import stat

import geopandas
import numpy as np
import pyarrow
import pyogrio
import pytest
import rasterio
import shapely
from geopandas.testing import assert_geodataframe_equal
from pyarrow import parquet
from rasterio import features
from rasterio.transform import Affine

from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.errors import ConfigError, InputError, OutputError, ResourceError
from co2s_cli.geo.write import styles, vector
from co2s_cli.jobs import vectorize

NORTH_UP = Affine(10, 0, 400_000, 0, -10, 5_600_000)
GRIDS = {
    "north up": NORTH_UP,
    "south up": Affine(10, 0, 400_000, 0, 10, 5_500_000),
    "rotated": Affine(8, 4.2, 400_000, 6, -5.6, 5_600_000),
}


def labels(side=60, classes=4, seed=0, blocks=6):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (side // blocks + 1, side // blocks + 1))
    image = np.kron(coarse, np.ones((blocks, blocks), int))[:side, :side].astype(np.uint8)
    noise = rng.random((side, side))
    image[noise < 0.05] = 1
    image[noise > 0.97] = 255
    return image


def save(path, image, **options):
    profile = {"crs": "EPSG:32633", "transform": NORTH_UP, "nodata": 255} | options
    bands = image if image.ndim == 3 else image[None]
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands),
        dtype=bands.dtype, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(bands)
    return path


def run(raster, out, **options):
    plain = {"min_area": 0, "simplify": 0, "workers": 1}
    return vectorize.run(VectorizeConfig(raster=str(raster), out=out, **(plain | options)))


def read(path):
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)


@pytest.fixture
def raster(tmp_path):
    return save(tmp_path / "map.tif", labels())


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet", ".geojson", ".geojsonl"])
def test_every_format_is_read_back_as_a_coverage_with_all_attributes(raster, tmp_path, suffix):
    result = run(raster, tmp_path / f"out{suffix}")
    frame = read(result.out)
    theirs = sum(1 for _ in features.shapes(labels(), labels() != 255))
    assert result.polygons == len(frame) == theirs
    assert set(frame.columns) == {"class_id", "class", "area_m2", "perimeter_m", "geometry"}
    assert frame.crs.to_epsg() == (4326 if "geojson" in suffix else 32633)
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    assert shapely.is_ccw(shapely.get_exterior_ring(frame.geometry.to_numpy())).all()
    for value, group in frame.groupby("class_id"):
        assert group["class"].unique() == [f"class {value}"]
        np.testing.assert_allclose(group.area_m2.sum(), 100 * np.sum(labels() == value), rtol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_areas_and_places_are_right_on_every_grid(tmp_path, name):
    image = labels()
    path = save(tmp_path / "map.tif", image, transform=GRIDS[name])
    frame = read(run(path, tmp_path / "out.gpkg").out)
    pixel = abs(GRIDS[name].determinant)
    for value, group in frame.groupby("class_id"):
        np.testing.assert_allclose(group.area_m2.sum(), pixel * np.sum(image == value), rtol=1e-9)
        np.testing.assert_allclose(group.area.sum(), pixel * np.sum(image == value), rtol=1e-9)
    np.testing.assert_allclose(frame.perimeter_m, frame.length)
    back = features.rasterize(
        zip(frame.geometry, frame.class_id, strict=True), image.shape, fill=255, transform=GRIDS[name]
    )
    np.testing.assert_array_equal(back, image)
    assert shapely.is_ccw(shapely.get_exterior_ring(frame.geometry.to_numpy())).all()


def test_areas_in_degrees_are_those_on_the_ellipsoid(tmp_path):
    path = save(tmp_path / "map.tif", labels(), crs="EPSG:4326", transform=Affine(0.001, 0, 12, 0, -0.001, 52))
    frame = read(run(path, tmp_path / "out.gpkg").out)
    geod = frame.crs.get_geod()
    expected = [geod.geometry_area_perimeter(shape) for shape in frame.geometry]
    # edges of pixels run along parallels, which are no geodesics: longer edges differ a little more
    np.testing.assert_allclose(frame.area_m2, [area for area, _ in expected], rtol=1e-4)
    plain = shapely.get_num_interior_rings(frame.geometry) == 0  # pyproj measures the shell only
    np.testing.assert_allclose(frame.perimeter_m[plain], np.array(expected)[plain, 1], rtol=1e-4)
    west, south, east, north = 12, 52 - 0.06, 12.06, 52
    whole = geod.polygon_area_perimeter([west, east, east, west], [south, south, north, north])[0]
    np.testing.assert_allclose(frame.area_m2.sum(), whole * np.mean(labels() != 255), rtol=1e-3)


def test_names_and_colours_come_from_the_raster(tmp_path):
    from co2s_cli.classes import ClassMap

    path = save(tmp_path / "map.tif", labels(classes=3))
    classes = ClassMap.of([{"name": "water", "color": [0, 0, 255]}, "forest", {"name": "field", "color": [9, 8, 7]}])
    for target, text in styles.sidecars(path, classes).items():
        target.write_text(text)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, styles.palette(classes))
    result = run(path, tmp_path / "map.gpkg")
    assert set(read(result.out)["class"]) == {"water", "forest", "field"}
    text = result.style.read_text()
    assert "rasterrenderer" in text  # the raster's own style lives in the same file
    assert 'value="9,8,7,255"' in text
    assert 'label="water"' in text


def test_names_in_the_tags_count_too(tmp_path):
    path = save(tmp_path / "map.tif", labels(classes=2))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES=json.dumps(["wet", "dry"]))
    assert set(read(run(path, tmp_path / "out.fgb").out)["class"]) == {"wet", "dry"}


def test_classes_are_chosen_without_changing_the_others_borders(raster, tmp_path):
    every = read(run(raster, tmp_path / "all.gpkg", simplify=1.5).out)
    some = read(run(raster, tmp_path / "some.gpkg", simplify=1.5, classes="0,class 2").out)
    rest = read(run(raster, tmp_path / "rest.gpkg", simplify=1.5, exclude="1,3").out)
    chosen = every[every.class_id.isin([0, 2])].reset_index(drop=True)
    assert_geodataframe_equal(some, chosen)
    assert_geodataframe_equal(rest, chosen)


def test_an_unknown_class_is_refused(raster, tmp_path):
    with pytest.raises(ConfigError, match="meadow: no such class"):
        run(raster, tmp_path / "out.gpkg", classes="meadow")


def test_confidences_are_scaled_as_their_raster_says(raster, tmp_path):
    values = np.random.default_rng(1).integers(0, 255, (60, 60)).astype(np.uint8)
    confidence = save(tmp_path / "confidence.tif", values)
    with rasterio.open(confidence, "r+") as dataset:
        dataset.scales = (1 / 254,)
    frame = read(run(raster, tmp_path / "out.gpkg", confidence=str(confidence)).out)
    for row in frame.sample(20, random_state=0).itertuples():
        inside = values[features.rasterize([row.geometry], values.shape, transform=NORTH_UP) == 1] / 254
        np.testing.assert_allclose(row.confidence_mean, inside.mean())
        np.testing.assert_allclose(row.confidence_p10, np.quantile(inside, 0.1, method="inverted_cdf"))


def test_confidences_of_another_grid_are_refused(raster, tmp_path):
    confidence = save(tmp_path / "confidence.tif", labels(side=30))
    with pytest.raises(InputError, match="its class raster"):
        run(raster, tmp_path / "out.gpkg", confidence=str(confidence))


def test_the_sieved_raster_and_the_polygons_tell_the_same_story(raster, tmp_path):
    result = run(raster, tmp_path / "out.gpkg", min_area="1000m2", sieved=tmp_path / "sieved.tif")
    frame = read(result.out)
    with rasterio.open(result.sieved) as dataset:
        image = dataset.read(1)
    back = features.rasterize(
        zip(frame.geometry, frame.class_id, strict=True), image.shape, fill=255, transform=NORTH_UP
    )
    np.testing.assert_array_equal(back, image)
    assert (image != labels()).any()
    same = read(run(raster, tmp_path / "pixels.gpkg", min_area="10px").out)
    assert_geodataframe_equal(same, frame)


def test_small_areas_in_degrees_are_measured_in_the_middle_of_the_map(tmp_path):
    image = np.zeros((40, 9), np.uint8)
    image[2, 4] = image[37, 4:6] = 1
    path = save(tmp_path / "map.tif", image, crs="EPSG:4326", transform=Affine(2, 0, 0, 0, -2, 80))
    frame = read(run(path, tmp_path / "out.gpkg", min_area="4000000ha").out)  # 1.05 pixels at 40° north
    assert frame.class_id.tolist() == [1, 0]
    assert frame.area_m2[0] > 4e10
    frame = read(run(path, tmp_path / "all.gpkg", min_area="3700000ha").out)  # 0.97 pixels there
    assert frame.class_id.tolist() == [1, 1, 0]


def test_a_raster_without_crs_has_a_minimum_area_in_pixels_only(tmp_path):
    path = save(tmp_path / "map.tif", labels(), crs=None)
    result = vectorize.run(VectorizeConfig(raster=str(path), out=tmp_path / "out.gpkg", simplify=0, workers=1))
    assert result.merged_pixels > 0
    for options in ({"min_area": "5m2"}, {"min_area": "1ha"}, {"simplify": "2m"}):
        with pytest.raises(ConfigError, match="no CRS"):
            run(path, tmp_path / "other.gpkg", **options)
    with pytest.raises(InputError, match="no CRS"):
        run(path, tmp_path / "degrees.geojson")


def test_the_default_minimum_area_is_the_same_in_pixels_at_any_resolution(tmp_path):
    for side in (0.5, 30):
        path = save(tmp_path / f"{side}.tif", labels(), transform=Affine(side, 0, 400_000, 0, -side, 5_600_000))
        out = tmp_path / f"{side}.gpkg"
        result = vectorize.run(VectorizeConfig(raster=str(path), out=out, simplify=0, workers=1))
        frame = read(result.out)
        assert frame.area_m2.min() >= 8 * side**2
        back = features.rasterize(
            zip(frame.geometry, frame.class_id, strict=True), (60, 60), fill=255,
            transform=Affine(side, 0, 400_000, 0, -side, 5_600_000),
        )  # fmt: skip
        assert result.merged_pixels == np.sum(back != labels()) > 0


def test_amounts_are_no_classes(tmp_path):
    image = np.arange(200, dtype=np.uint8).reshape(10, 20)
    with pytest.raises(InputError, match="200 values without names") as caught:
        run(save(tmp_path / "many.tif", image), tmp_path / "out.gpkg")
    assert "--confidence" in caught.value.hint
    path = save(tmp_path / "scaled.tif", labels())
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1 / 254,)
    with pytest.raises(InputError, match="found amounts"):
        run(path, tmp_path / "out.gpkg")


def test_workers_are_as_many_as_memory_allows(raster, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(raster, tmp_path / "out.gpkg", workers=64, mem_limit="300kB")
    assert "--workers 64" in caplog.text


def test_masks_and_other_nodata_values_are_no_polygons(tmp_path):
    image = labels()
    image[image == 255] = 9
    path = save(tmp_path / "map.tif", image, nodata=9)
    assert 9 not in set(read(run(path, tmp_path / "out.gpkg").out).class_id)
    path = save(tmp_path / "masked.tif", image, nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(image != 9)
    assert 9 not in set(read(run(path, tmp_path / "masked.gpkg").out).class_id)


def test_a_map_of_nothing_becomes_a_layer_of_nothing(tmp_path):
    path = save(tmp_path / "map.tif", np.full((5, 5), 255, np.uint8))
    for suffix in vector.FORMATS:
        result = run(path, tmp_path / f"as_{suffix[1:]}{suffix}", min_area="3px", simplify=1.5)
        assert result.polygons == 0
        if suffix != ".geojsonl":
            assert len(read(result.out)) == 0


def test_another_crs_moves_the_corners_and_keeps_the_areas(raster, tmp_path):
    plain = read(run(raster, tmp_path / "plain.gpkg").out)
    moved = read(run(raster, tmp_path / "moved.gpkg", dst_crs="EPSG:3857").out)
    assert moved.crs.to_epsg() == 3857
    assert moved.area_m2.tolist() == plain.area_m2.tolist()
    np.testing.assert_allclose(moved.total_bounds, plain.to_crs(3857).total_bounds)


def test_a_geopackage_is_of_a_version_that_older_readers_know(raster, tmp_path):
    with contextlib.closing(sqlite3.connect(run(raster, tmp_path / "out.gpkg").out)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)


def test_geojson_has_digits_for_a_thousandth_of_a_pixel(raster, tmp_path):
    ring = json.loads(run(raster, tmp_path / "out.geojson").out.read_text())["features"][0]["geometry"]["coordinates"]
    digits = max(len(str(number).partition(".")[2]) for place in ring[0] for number in place)
    assert digits == 8  # 10 m are 9e-5 degrees


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"out": "out.shp"}, ConfigError, "suffix"),
        ({"out": "missing/out.gpkg"}, OutputError, "does not exist"),
        ({"raster": "no.tif"}, InputError, "no such file"),
        ({"out": "out.geojson", "dst_crs": "EPSG:3857"}, ConfigError, "EPSG:4326 always"),
        ({"dst_crs": "EPSG:nowhere"}, ConfigError, "no such coordinate system"),
        ({"mem_limit": "1kB"}, ResourceError, "needs at least"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(raster, tmp_path, options, kind, words):
    before = sorted(tmp_path.iterdir())
    paths = {
        name: tmp_path / options.pop(name, default) for name, default in (("raster", "map.tif"), ("out", "out.gpkg"))
    }
    with pytest.raises(kind, match=words):
        run(paths["raster"], paths["out"], **options)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "image", [labels().astype(np.float32), np.stack([labels(), labels()]), labels().astype(np.uint16)]
)
def test_what_is_no_class_raster_is_refused(tmp_path, image):
    path = save(tmp_path / "other.tif", image, nodata=None)
    with pytest.raises(InputError, match="a class raster has"):
        run(path, tmp_path / "out.gpkg")


def test_a_folder_of_geoparquet_holds_the_same_in_parts_with_bounding_boxes(raster, tmp_path, monkeypatch):
    monkeypatch.setattr(vector, "_PART_FEATURES", 40)
    monkeypatch.setattr(vector, "_GROUP_FEATURES", 15)
    one = read(run(raster, tmp_path / "one.parquet").out)
    folder = run(raster, f"{tmp_path}/many.parquet/").out
    assert_geodataframe_equal(read(folder), one)
    parts = [parquet.ParquetFile(path) for path in sorted(folder.iterdir())]
    assert [part.metadata.num_rows for part in parts[:-1]] == [40] * (len(one) // 40)
    assert [parts[0].metadata.row_group(at).num_rows for at in range(3)] == [15, 15, 10]
    geo = json.loads(parts[-1].schema_arrow.metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
    boxes = pyarrow.concat_tables([part.read(["bbox"]) for part in parts])["bbox"].to_pylist()
    np.testing.assert_array_equal([[*box.values()] for box in boxes], one.bounds)
    west, south, east, north = one.total_bounds
    corner = (west, south, west + (east - west) / 4, south + (north - south) / 4)
    near = geopandas.read_parquet(folder, bbox=corner)
    assert 0 < len(near) < len(one) / 4
    assert near.geometry.tolist() == [
        shape for shape in one.geometry if shapely.box(*corner).intersects(shape.envelope)
    ]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(raster, folder, mem_limit="100kB", overwrite=True)  # a folder that is there needs no slash
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_is_replaced_only_when_told_and_never_with_what_is_not_ours(raster, tmp_path):
    folder = tmp_path / "map.parquet"
    folder.mkdir()
    run(raster, folder)  # an empty one is taken
    with pytest.raises(OutputError, match="exists and is not overwritten"):
        run(raster, folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds notes\.txt"):
        run(raster, folder, overwrite=True)
    with pytest.raises(ConfigError, match=r"end in \.parquet/, found map\.gpkg/"):
        run(raster, f"{tmp_path}/map.gpkg/")


def test_a_folder_of_nothing_is_read_and_one_that_fails_is_not_there(raster, tmp_path, monkeypatch):
    empty = save(tmp_path / "empty.tif", np.full((20, 20), 255, np.uint8))
    assert len(read(run(empty, f"{tmp_path}/empty.parquet/").out)) == 0
    monkeypatch.setattr(vector, "_PART_FEATURES", 10)
    monkeypatch.setattr(vector.parquet, "ParquetWriter", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match=r"could not be written \(full\)"):
        run(raster, f"{tmp_path}/map.parquet/")
    assert not (tmp_path / "map.parquet").exists()
    assert not [*tmp_path.glob(".co2s.*")]


def test_an_output_is_replaced_only_when_told(raster, tmp_path):
    run(raster, tmp_path / "out.gpkg")
    with pytest.raises(OutputError, match="exists"):
        run(raster, tmp_path / "out.gpkg")
    run(raster, tmp_path / "out.gpkg", overwrite=True)


def test_a_second_format_beside_the_first_keeps_a_style_that_its_user_changed(raster, tmp_path):
    style = run(raster, tmp_path / "out.gpkg").style
    own = style.read_text().replace('alpha="1"', 'alpha="0.5"') + "<!-- mine -->\n"
    style.write_text(own)
    assert run(raster, tmp_path / "out.fgb").style == style
    assert style.read_text() == own
    run(raster, tmp_path / "out.fgb", overwrite=True)
    assert "mine" not in style.read_text()


def test_nothing_is_left_behind_when_reading_fails(raster, tmp_path, monkeypatch):
    def fail(*_):
        raise InputError("torn")

    monkeypatch.setattr("co2s_cli.geo.polygons.class_raster.ByteRasterReader.values", fail)
    for suffix in vector.FORMATS:
        with pytest.raises(InputError, match="torn"):
            run(raster, tmp_path / f"out{suffix}", min_area="4px")
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_no_files_is_refused(raster, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="cannot write to this folder"):
        run(raster, folder / "out.gpkg")


@pytest.mark.slow
def test_processes_and_memory_limits_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("co2s_cli.geo.polygons.stream._POOL_SECONDS", 0.0)
    path = save(tmp_path / "map.tif", labels(side=1100, blocks=9))
    wanted = {"min_area": "20px", "simplify": 1.5}
    files = [
        run(path, tmp_path / f"{number}.fgb", **wanted, **options).out
        for number, options in enumerate([{}, {"workers": 2}, {"mem_limit": "40MB"}])
    ]
    one, *others = (pyogrio.read_dataframe(file) for file in files)
    for other in others:
        assert_geodataframe_equal(one, other)


@pytest.mark.slow
def test_blocks_with_columns_change_nothing_but_where_simplified_borders_are_cut(tmp_path, monkeypatch):
    """Wide maps are cut in columns, so that a block takes the same memory at any width."""
    monkeypatch.setattr("co2s_cli.geo.polygons.stream._POOL_SECONDS", 0.0)
    path = save(tmp_path / "map.tif", labels(side=700, blocks=9))
    levels = save(tmp_path / "levels.tif", np.random.default_rng(1).integers(0, 255, (700, 700)).astype(np.uint8))

    def polygons(name, **options):
        return read(run(path, tmp_path / name, confidence=str(levels), **options).out)

    whole, smooth = polygons("whole.parquet"), polygons("smooth.parquet", simplify=1.5)
    for module in ("plan", "simplify"):
        monkeypatch.setattr(f"co2s_cli.geo.polygons.{module}.JOINT_COLUMNS", 200)
    assert_geodataframe_equal(polygons("cut.parquet", mem_limit="5MB"), whole)
    cut = polygons("smooth-cut.parquet", simplify=1.5)
    assert_geodataframe_equal(cut, polygons("smooth-cut2.parquet", simplify=1.5, workers=2))
    assert shapely.coverage_is_valid(cut.geometry.values)
    same = ["class_id", "confidence_mean", "confidence_p10"]
    assert cut[same].equals(smooth[same])
    assert (cut.geometry.values == smooth.geometry.values).mean() > 0.9
