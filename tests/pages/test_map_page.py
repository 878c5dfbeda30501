"""A map as a page: what is in the file, and what a real browser makes of it."""

import base64
import io
import json
import re

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from support.browser import opened
from support.rasters import noise, write_raster

from co2s_cli.classes import IGNORE
from co2s_cli.jobs import report

NAMES = ["water", "field & <b>meadow</b>", "town"]
COLORS = {0: (0, 0, 255, 255), 1: (0, 200, 0, 255), 2: (0, 0, 255, 255)}
SHAPE = (120, 200)


@pytest.fixture
def rasters(tmp_path):
    """A map of three classes, two of one colour, its scene, and a confidence that is low in one corner."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 80:] = 1
    labels[60:, 150:] = 2
    labels[:10] = IGNORE
    sure = np.full(SHAPE, 240, np.uint8)
    sure[90:110, 160:180] = 100
    write_raster(tmp_path / "map.tif", labels, nodata=IGNORE)
    with rasterio.open(tmp_path / "map.tif", "r+") as dataset:
        dataset.write_colormap(1, COLORS)
        dataset.update_tags(CLASS_NAMES=json.dumps(NAMES))
    write_raster(tmp_path / "scene.tif", noise((3, *SHAPE)), names=("red", "green", "blue"))
    for name in ("sure.tif", "apart.tif"):
        write_raster(tmp_path / name, sure if name == "sure.tif" else 254 - sure, nodata=IGNORE)
        with rasterio.open(tmp_path / name, "r+") as dataset:
            dataset.scales = (1 / 254,)
    return tmp_path


@pytest.fixture
def page(co2s, rasters):
    out = rasters / "report.html"
    result = co2s(
        "report", rasters / "map.tif", "--image", rasters / "scene.tif", "--confidence", rasters / "sure.tif",
        "--disagreement", rasters / "apart.tif", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return out


def test_small_maps_tell_square_metres(co2s, rasters):
    with rasterio.open(rasters / "map.tif", "r+") as dataset:
        dataset.transform = Affine(0.1, 0, 500_000, 0, -0.1, 5_500_000)  # 12 m × 20 m
    assert co2s("report", rasters / "map.tif", "--out", rasters / "small.html").exit_code == 0
    text = (rasters / "small.html").read_text()
    assert "m²" in text
    assert ">88.1<" in text  # 110 rows × 80 columns of water, each 0.01 m² / 0.9996², the scale of UTM


def data_of(page):
    return json.loads(re.search(r'id="page-data">(.*?)</script>', page.read_text(), re.DOTALL)[1])["map"]


def picture(page, name):
    uri = re.search(rf'id="layer-{name}"[^>]*src="data:image/\w+;base64,([^"]+)"', page.read_text())[1]
    return Image.open(io.BytesIO(base64.b64decode(uri)))


def test_the_page_needs_nothing_from_elsewhere(page):
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)[^"#]', text)
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text


def test_the_legend_has_exact_areas_of_the_whole_map(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page.read_text(), re.DOTALL)[1:]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert [row[1] for row in cells] == ["40.0", "46.4", "13.6"]
    assert float(cells[0][0]) == pytest.approx(80 * 110 * 100 / 1e4, rel=2e-3)


def test_names_cannot_break_the_page(page):
    text = page.read_text()
    assert "<b>meadow" not in text
    assert "field &amp; &lt;b&gt;meadow" in text
    assert data_of(page)["classes"][1]["name"] == NAMES[1]


def test_the_picture_of_the_map_is_the_map_and_no_two_classes_share_a_colour(page):
    colors = {tuple(item["color"]): item["id"] for item in data_of(page)["classes"]}
    assert len(colors) == 3
    pixels = np.asarray(picture(page, "map").convert("RGBA"))
    assert (pixels[:10, :, 3] == 0).all()
    assert colors[tuple(pixels[50, 20, :3].tolist())] == 0
    assert colors[tuple(pixels[100, 190, :3].tolist())] == 2


def test_the_least_sure_place_comes_first(page):
    data = data_of(page)
    first = data["places"][0]
    assert 160 <= first["left"] + first["side"] / 2 <= 180
    assert 90 <= first["top"] + first["side"] / 2 <= 110
    assert first["text"] == "1. town: confidence 39 %"
    assert [layer["name"] for layer in data["layers"]] == ["map", "confidence", "disagreement"]


def test_a_map_alone_has_a_page_too_south_up_and_without_crs(co2s, tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[:5] = 1
    write_raster(tmp_path / "map.tif", labels, transform=Affine(10, 0, 5e5, 0, 10, 5.4e6), crs=None)
    result = co2s("report", tmp_path / "map.tif", "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.stderr
    pixels = np.asarray(picture(tmp_path / "page.html", "map").convert("RGB"))
    assert (pixels[-1, 0] != pixels[0, 0]).any()
    assert (pixels[-5:] == pixels[-1, 0]).all()
    data = data_of(tmp_path / "page.html")
    assert data["transform"][5] == 5.4e6 + 200
    assert data["transform"][4] == -10
    assert data["metres"] is None
    assert '<th scope="col">pixels</th>' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--image", "small.tif"], 3, "200 × 120"),
        (["--confidence", "scene.tif"], 3, "one band"),
        (["--out", "report.txt"], 2, ".html"),
    ],
)
def test_what_does_not_fit_is_refused(co2s, rasters, monkeypatch, arguments, code, words):
    monkeypatch.chdir(rasters)
    write_raster("small.tif", noise((3, 10, 10)))
    out = [] if "--out" in arguments else ["--out", "page.html"]
    result = co2s("report", "map.tif", *out, *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert not (rasters / "page.html").exists()


def test_pictures_get_coarser_until_the_page_is_small_enough(rasters, co2s, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 40_000)
    out = rasters / "small.html"
    assert co2s("report", rasters / "map.tif", "--image", rasters / "scene.tif", "--out", out).exit_code == 0
    assert out.stat().st_size <= 40_000
    assert picture(out, "map").width < 200


@pytest.mark.slow
def test_a_browser_runs_it_without_a_word_and_keys_and_buttons_work(page):
    script = """
      const view = document.getElementById("view"), spot = document.getElementById("spot"), said = [];
      const press = (key) => view.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      const note = (value) => said.push(value);
      note(document.getElementById("layer-map").hidden);
      press("2");
      note(document.getElementById("layer-confidence").hidden);
      press("n");
      note(spot.hidden);
      note(document.getElementById("readout").textContent);
      const before = document.getElementById("stage").style.transform;
      press("+");
      note(document.getElementById("stage").style.transform !== before);
      press("1");
      const box = view.getBoundingClientRect();
      press("0");
      const point = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
      view.dispatchEvent(new PointerEvent("pointermove", { ...point, pointerId: 1 }));
      note(document.getElementById("readout").textContent);
      document.getElementById("class-1").click();
      note(document.getElementById("layer-map") === null && document.querySelector("#stage canvas") !== null);
      note(document.documentElement.scrollWidth <= innerWidth);
      document.title = JSON.stringify(said);
    """
    dom, console = opened(page, script)
    assert console == []
    title = re.search(r"<title>(.*?)</title>", dom)[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    said = json.loads(title)
    assert said[:5] == [False, False, False, "1. town: confidence 39 %", True]
    assert said[5].startswith("field & <b>meadow</b> · confidence 9")
    x, y = (float(number) for number in said[5].rpartition(" · ")[2].split(", "))
    assert (x, y) == pytest.approx((501_000, 5_499_400), abs=3)  # the middle of the map
    assert said[6:] == [True, True]


@pytest.mark.slow
def test_at_400_percent_nothing_is_wider_than_the_window(page):
    """A window of 1280 pixels at 400 % is one of 320; headless windows have a least width, frames have none."""
    inner = page.with_name("inner.html")
    note = "parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')"
    inner.write_text(page.read_text().replace("</body>", f"<script>{note}</script></body>"))
    outer = page.with_name("outer.html")
    frame = f'<iframe src="{inner.name}" style="width:320px;height:256px;border:0"></iframe>'
    heard = "<script>onmessage = (event) => { document.title = JSON.stringify(event.data) }</script>"
    outer.write_text(f"<html><head><title></title>{heard}</head><body>{frame}</body></html>")
    dom, console = opened(outer)
    assert console == []
    assert json.loads(re.search(r"<title>(.*?)</title>", dom)[1]) == [320, 320]
