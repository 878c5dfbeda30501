"""What people name on a command line."""

import pytest

from co2s_cli.errors import InputError
from co2s_cli.geo.sources import expand_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.tif", "a.TIF", "c.jp2", "c.jp2.aux.xml", "notes.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.tif").touch()
    (tmp_path / "[odd].tif").touch()
    return tmp_path


def names(found, folder):
    return [source.removeprefix(f"{folder}/") for source in found]


def test_a_folder_stands_for_its_rasters(folder):
    assert names(expand_sources([str(folder)]), folder) == ["[odd].tif", "a.TIF", "b.tif", "c.jp2"]


def test_globs_match_and_files_whose_names_look_like_globs_are_files(folder):
    assert names(expand_sources([f"{folder}/?.tif"]), folder) == ["b.tif"]
    assert names(expand_sources([f"{folder}/**/*.tif"]), folder) == ["[odd].tif", "b.tif", "deep/d.tif"]
    assert names(expand_sources([f"{folder}/[odd].tif"]), folder) == ["[odd].tif"]


def test_a_list_names_one_source_a_line(folder):
    listed = folder / "list.txt"
    listed.write_text(f"# two of them\n{folder}/b.tif\n\n  {folder}/deep  \n")
    assert names(expand_sources([f"@{listed}"]), folder) == ["b.tif", "deep/d.tif"]


def test_addresses_and_missing_files_pass_and_nothing_comes_twice(folder):
    addresses = ["/vsizip/a.zip/b*.tif", "s3://bucket/x.tif", "https://host/y.tif?z=*", "absent.tif"]
    assert expand_sources([*addresses, *addresses]) == addresses


@pytest.mark.parametrize("argument", ["{}/*.png", "{}/empty", "@{}/absent.txt", "@{}/notes.txt"])
def test_what_names_nothing_is_refused(folder, argument):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=str(folder)):
        expand_sources([argument.format(folder)])
