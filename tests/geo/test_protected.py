"""No output is written over an input, however its name is hidden."""

import json
from pathlib import Path

import pytest

from co2s_cli.errors import ConfigError
from co2s_cli.geo.protected import check_apart, leads_to_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("scene.tif", "labels.gpkg", "a&b.tif"):
        Path(name).write_bytes(b"II*")
    Path("sub").mkdir()
    Path("sub/inner.vrt").write_text(vrt("../scene.tif", relative=True))
    Path("outer.vrt").write_text(vrt(str(tmp_path / "sub" / "inner.vrt"), relative=False))
    Path("warped.vrt").write_text('<VRTDataset><SourceDataset relativeToVRT="1">scene.tif</SourceDataset></VRTDataset>')
    Path("escaped.vrt").write_text(vrt("a&amp;b.tif", relative=True))
    Path("itself.vrt").write_text(vrt("itself.vrt", relative=True) + vrt("scene.tif", relative=True))
    inline = vrt("scene.tif", relative=False).replace("<", "&lt;").replace('"', "&quot;")
    Path("inline.vrt").write_text(vrt(inline, relative=False))
    Path("link.tif").symlink_to("scene.tif")
    Path("linked").symlink_to("sub")
    Path("hard.tif").hardlink_to("scene.tif")
    return tmp_path


def vrt(source, *, relative):
    return (
        f'<VRTDataset rasterXSize="4"><VRTRasterBand><SimpleSource><SourceFilename relativeToVRT="{int(relative)}"'
        f' shared="0">{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )


HIDDEN = [
    "scene.tif", "./sub/../scene.tif", "link.tif", "hard.tif", "sub/inner.vrt", "linked/inner.vrt", "outer.vrt",
    "warped.vrt", "itself.vrt", "inline.vrt", "/vsizip/{folder}/scene.tif/inner/file.tif",
    "@scene.tif", 'HDF5:"{folder}/scene.tif":x', "vrt://{folder}/scene.tif?bands=1", "NAME:scene.tif", "TAG=scene.tif",
]  # fmt: skip


@pytest.mark.parametrize("source", HIDDEN)
@pytest.mark.parametrize("output", ["scene.tif", "link.tif"])
def test_what_lies_behind_an_input_is_no_output(folder, source, output):
    source = source.format(folder=folder)
    with pytest.raises(ConfigError, match=r"--out (scene|link).tif: would overwrite .* \(SCENE ") as caught:
        check_apart([("--aoi", "labels.gpkg"), ("SCENE", source)], [("--out", Path(output))])
    assert source in caught.value.message


def test_what_an_item_names_is_no_output(folder):
    Path("item.scene").write_text(json.dumps({"assets": {"red": {"href": str(folder / "scene.tif")}}}))
    with pytest.raises(ConfigError, match=r"\(SCENE item.scene, by way of .*scene.tif\)"):
        check_apart([("SCENE", "item.scene")], [("--out", Path("scene.tif"))])


def test_the_way_to_the_input_is_told(folder):
    with pytest.raises(ConfigError, match=r"\(SCENE outer.vrt, by way of .*scene.tif\)"):
        check_apart([("SCENE", "outer.vrt")], [("--out", folder / "scene.tif")])


def test_files_that_are_not_there_yet_are_compared_by_name(folder):
    with pytest.raises(ConfigError, match=r"--sieved linked/new.tif: --out writes the same file"):
        check_apart([], [("--out", Path("sub/new.tif")), ("--sieved", Path("linked/new.tif"))])
    with pytest.raises(ConfigError, match="would overwrite"):
        check_apart([("--init", "sub/later.tif")], [("--out", Path("linked/later.tif"))])


def test_texts_that_name_no_file_are_no_inputs(folder):
    assert not any(leads_to_file(text) for text in ("", ".", "class", "sub", "sub/new.tif", "NAME:none", "x" * 999))
    assert all(leads_to_file(text) for text in ("scene.tif", "NAME:scene.tif", "outer.vrt"))
    check_apart([("--set", "")], [("--out", Path("map.tif"))])


def test_a_folder_that_is_read_takes_no_output(folder):
    with pytest.raises(ConfigError, match="would overwrite"):
        check_apart([("--truth", "sub")], [("--out", Path("linked/new.tif"))])


def test_other_files_are_free(folder):
    inputs = [
        ("SCENE", name) for name in ("outer.vrt", "escaped.vrt", "/vsicurl/https://host/scene.tif", "s3://b/k.tif")
    ]
    inputs += [("--set", "long text " * 100)]
    check_apart(inputs, [("--out", Path("map.tif")), ("--vector", Path("labels.gpkg")), ("--out", Path("map.tif"))])
    with pytest.raises(ConfigError, match="would overwrite"):
        check_apart(inputs, [("--out", Path("a&b.tif"))])
