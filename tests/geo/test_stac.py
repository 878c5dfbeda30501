"""Scenes from STAC: items by file and by address, one-band assets as one raster, and what is told of bad ones."""

import json

import numpy as np
import pytest
import rasterio
from support import bucket
from support.rasters import noise, write_raster

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.sources import expand_sources
from co2s_cli.tiling import Window

PLACE = {"crs": "EPSG:32631", "tiled": True, "blockxsize": 64, "blockysize": 64}
AT = rasterio.Affine(10, 0, 600000, 0, -10, 5000000)


@pytest.fixture
def bands(tmp_path):
    """Five one-band files as of Sentinel-2, of which B11 has pixels of 20 m."""
    arrays = {}
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("B02", "B03", "B04", "B08")):
        arrays[name] = noise((1, 200, 220), "uint16", seed=seed)
        write_raster(tmp_path / "data" / f"{name}.tif", arrays[name], transform=AT, nodata=0, **PLACE)
    arrays["B11"] = np.full((1, 100, 110), 50, np.uint16)
    write_raster(
        tmp_path / "data" / "B11.tif",
        arrays["B11"],
        transform=rasterio.Affine(20, 0, 600000, 0, -20, 5000000),
        nodata=0,
        **PLACE,
    )
    return arrays


def asset(name, common=None, **others):
    told = {"eo:bands": [{"name": name, **({"common_name": common} if common else {})}]}
    return {
        "href": f"./data/{name}.tif",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        **told,
        **others,
    }


def item(name="S2A_1", **assets):
    known = {
        "B02": asset("B02", "blue"), "B03": asset("B03", "green"), "B04": asset("B04", "red"),
        "B08": asset("B08", "nir"), "B11": asset("B11", "swir16"),
        "thumbnail": {"href": "t.png", "type": "image/png", "roles": ["thumbnail"]},
    }  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [],
        "properties": {"datetime": "2026-05-01T10:00:00Z"}, "assets": assets or known,
    }  # fmt: skip


def write(path, document):
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(source, *assets):
    (name,) = expand_sources([source], assets)
    return Scene.open(name)


@pytest.mark.parametrize("assets", [("B04", "B03", "B02"), ("red", "green", "blue")])
def test_assets_are_stacked_in_the_order_that_is_wanted(tmp_path, bands, assets):
    scene = opened(write(tmp_path / "item.json", item()), *assets)
    assert (scene.names, scene.dtype, scene.grid.transform) == (("red", "green", "blue"), "uint16", AT)
    with scene.reader() as reader:
        pixels = reader.read(Window(20, 30, 70, 80)).pixels
    wanted = np.concatenate([bands[name] for name in ("B04", "B03", "B02")])[:, 20:90, 30:110]
    np.testing.assert_array_equal(pixels, wanted)
    assert scene.with_bands_of(["B02", "B04"]).bands == (3, 1)
    assert scene.rules.describe() == Scene.open(str(tmp_path / "data" / "B02.tif")).rules.describe()


def test_an_asset_of_coarser_pixels_is_resampled(tmp_path, bands):
    scene = opened(write(tmp_path / "item.json", item()), "B04", "B11")
    assert scene.names == ("red", "swir16")
    with scene.reader() as reader:
        assert (reader.read(Window(0, 0, 200, 220)).pixels[1] == 50).all()


def test_a_scene_is_named_by_its_item_and_stands_for_itself(tmp_path, bands):
    found = expand_sources([write(tmp_path / "item.json", item("S2A/2026.05"))], ["red"])
    assert [name.rpartition("/")[2] for name in found] == ["S2A_2026.05.scene"]
    assert expand_sources(found) == found
    assert Scene.open(found[0]).identity == opened(str(tmp_path / "item.json"), "B04").identity
    assert Scene.open(found[0]).identity != opened(str(tmp_path / "item.json"), "B03").identity


def test_collections_catalogues_and_lists_lead_to_their_items(tmp_path, bands):
    for number in (1, 2):
        write(tmp_path / f"{number}.json", item(f"S2A_{number}"))
    links = [{"rel": "item", "href": f"./{number}.json"} for number in (1, 2)]
    write(
        tmp_path / "collection.json", {"type": "Collection", "id": "c", "links": [*links, {"rel": "self", "href": "x"}]}
    )
    root = {"type": "Catalog", "id": "r", "links": [{"rel": "child", "href": "collection.json"}]}
    root["links"].append({"rel": "child", "href": "root.json"})  # a circle
    together = {"type": "FeatureCollection", "features": [item("S2A_1"), item("S2A_2")]}
    for document in (root, together):
        found = expand_sources([write(tmp_path / "root.json", document)], ["red"])
        assert [name.rpartition("/")[2] for name in found] == ["S2A_1.scene", "S2A_2.scene"]


def test_one_raster_needs_no_assets_and_keeps_its_own_bands(tmp_path):
    (tmp_path / "data").mkdir()
    write_raster(
        tmp_path / "data" / "rgb.tif", noise((3, 200, 220)), names=("nir", "red", "green"), transform=AT, **PLACE
    )
    visual = {"visual": asset("rgb"), "thumbnail": item()["assets"]["thumbnail"]}
    assert opened(write(tmp_path / "item.json", item(**visual))).names == ("nir", "red", "green")


def test_bands_of_one_common_name_keep_their_own(tmp_path, bands):
    assets = {"re1": asset("B03", "rededge"), "re2": asset("B04", "rededge"), "x": {**asset("B08"), "eo:bands": []}}
    scene = opened(write(tmp_path / "item.json", item(**assets)), "re1", "re2", "x")
    assert scene.names == ("B03", "B04", "x")


def test_items_and_assets_in_a_bucket(tmp_path, bands, monkeypatch):
    with bucket.running() as s3:
        s3.use(monkeypatch)
        for path in (tmp_path / "data").glob("*.tif"):
            s3.put("scenes", f"2026/data/{path.name}", path.read_bytes())
        s3.put("scenes", "2026/item.json", json.dumps(item()).encode())
        write(tmp_path / "item.json", item())
        here, there = (
            opened(str(tmp_path / "item.json"), "red", "nir"),
            opened("s3://scenes/2026/item.json", "red", "nir"),
        )
        for scene in (here, there):
            s3.tell("clear")
            with scene.reader() as reader:
                pixels = reader.read(Window(0, 0, 200, 220)).pixels
            np.testing.assert_array_equal(pixels, np.concatenate([bands["B04"], bands["B08"]]))
        with pytest.raises(InputError, match=r"s3://scenes/2026/none.json: does not exist"):
            expand_sources(["s3://scenes/2026/none.json"])
        web = f"{s3.address}/scenes/2026/item.json"
        assert opened(web, "red").grid.shape == (200, 220)
        (name,) = expand_sources([web], ["red"])
        s3.tell("clear")
        Scene.open(name)
        assert len(s3.requests()) <= 3


@pytest.mark.parametrize(
    ("document", "assets", "told"),
    [
        (item(), (), r"item S2A_1 has 5 rasters: B02, B03, B04, B08, B11"),
        (item(), ("red", "B99"), r"item S2A_1 has no asset 'B99', or several; its rasters are B02, B03"),
        (item(), ("red", "B04"), r"--assets red,B04 names an asset of item S2A_1 twice"),
        (item(thumbnail=item()["assets"]["thumbnail"]), (), r"item S2A_1 has no asset that is a raster \(thumbnail\)"),
        ({"type": "Topology"}, (), r"is no STAC document, its type is 'Topology'"),
        ({"type": "Feature", "id": "a"}, (), r"is no STAC document, a feature lacks id or assets"),
        ({"type": "Catalog", "links": []}, (), r"leads to no STAC item"),
        ([1], (), r"is no STAC document \(a JSON object is wanted\)"),
    ],
)
def test_what_is_no_scene_is_told_in_one_line(tmp_path, document, assets, told):
    path = write(tmp_path / "items.json", document)
    with pytest.raises(InputError, match=told) as error:
        expand_sources([path], assets)
    assert str(error.value).startswith(path)


@pytest.mark.parametrize(
    ("href", "told"), [("", "Is a directory"), ("http://[", "is no address|cannot be reached|http")]
)
def test_links_that_lead_nowhere_are_told(tmp_path, href, told):
    path = write(tmp_path / "catalog.json", {"type": "Catalog", "links": [{"rel": "item", "href": href}]})
    with pytest.raises(InputError, match=told):
        expand_sources([path])


def test_assets_that_do_not_lie_together_are_refused(tmp_path, bands):
    write_raster(
        tmp_path / "data" / "B03.tif", bands["B03"], transform=rasterio.Affine(10, 0, 600050, 0, -10, 5000000), **PLACE
    )
    write_raster(tmp_path / "data" / "B02.tif", bands["B02"], transform=AT, **{**PLACE, "crs": "EPSG:32632"})
    path = write(tmp_path / "item.json", item())
    with pytest.raises(InputError, match=r"S2A_1.scene: asset 'B03' covers other ground"):
        opened(path, "red", "green")
    with pytest.raises(InputError, match=r"asset 'B02' has another CRS"):
        opened(path, "red", "blue")
    (tmp_path / "data" / "B08.tif").unlink()
    with pytest.raises(InputError, match=r"asset 'B08', .*/data/B08.tif, cannot be read"):
        opened(path, "red", "nir")


def test_assets_without_an_item_and_text_that_is_no_json_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--assets red: none of the scenes is a STAC item"):
        expand_sources(["scene.tif"], ["red"])
    (tmp_path / "items.json").write_text("<html>")
    with pytest.raises(InputError, match=r"items.json: is no STAC document \(no JSON"):
        expand_sources([str(tmp_path / "items.json")])
