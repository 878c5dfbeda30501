import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine


@pytest.fixture
def raster(tmp_path):
    image = np.kron(np.arange(9).reshape(3, 3) % 4, np.ones((5, 5), int)).astype(np.uint8)
    path = tmp_path / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=15, width=15, count=1, dtype="uint8", nodata=255, crs="EPSG:32633",
        transform=Affine(10, 0, 400_000, 0, -10, 5_600_000),
    ) as dataset:  # fmt: skip
        dataset.write(image, 1)
    return path


def test_a_file_is_written_and_named(co2s, raster, tmp_path):
    result = co2s("vectorize", raster, "--out", tmp_path / "out.gpkg")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "out.gpkg")
    assert (tmp_path / "out.qml").exists()


def test_a_name_with_a_slash_is_a_folder(co2s, raster, tmp_path):
    result = co2s("vectorize", raster, "--out", f"{tmp_path}/out.parquet/")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "out.parquet")
    assert [path.name for path in (tmp_path / "out.parquet").iterdir()] == ["part-00000.parquet"]
    assert (tmp_path / "out.qml").exists()


def test_json_tells_what_was_found(co2s, raster, tmp_path):
    result = co2s("vectorize", raster, "-o", tmp_path / "out.fgb", "--min-area", 0, "--simplify", 0, "--json")
    told = json.loads(result.stdout)
    assert told["polygons"] == 9
    assert sum(one["area_m2"] for one in told["classes"]) == 15 * 15 * 100
    assert {one["id"] for one in told["classes"]} == {0, 1, 2, 3}


def test_standard_output_holds_features_and_nothing_else(co2s, raster, capfd):
    result = co2s("vectorize", raster, "--out", "-", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""  # GDAL writes to the process's own
    features = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(features) == 9
    assert {feature["type"] for feature in features} == {"Feature"}
    assert features[0]["properties"]["class"].startswith("class ")


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--min-area", "5 apples"], 2, "area such as 100m2"),
        (["--simplify", "far"], 2, "length such as"),
        (["--classes", "1", "--exclude", "2"], 2, "not both"),
        (["--mem-limit", "much"], 2, "size such as"),
        (["--out", "out.xyz"], 2, "suffix"),
        (["--mem-limit", "1kB"], 6, "least"),
    ],
)
def test_mistakes_have_their_exit_codes_and_leave_nothing(co2s, raster, tmp_path, flags, code, words):
    out = [] if "--out" in flags else ["--out", tmp_path / "out.gpkg"]
    result = co2s("vectorize", raster, *out, *flags)
    assert result.exit_code == code
    assert words in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_settings_may_come_from_a_file(co2s, raster, tmp_path):
    (tmp_path / "run.yaml").write_text("min-area: 2ha\nsimplify: 0\nclasses: [0, 1]\n")
    result = co2s("vectorize", raster, "--out", tmp_path / "out.geojson", "--config", tmp_path / "run.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["polygons"] >= 1
