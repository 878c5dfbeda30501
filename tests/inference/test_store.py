"""The folder of unfinished work: its lock, its journal, and units that come back as they went in."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tasks import write_as_process_one

from co2s_cli import tiling
from co2s_cli.errors import OutputError
from co2s_cli.inference import store
from co2s_cli.inference.products import Plane
from co2s_cli.inference.store import Journal, JournalNotes, Parts, UnitBuilder, clear, folder_of, key_of, locked
from co2s_cli.inference.workers import helpers
from co2s_cli.locks import LOCK

PLANES = (Plane("class", "class"), Plane("probabilities", "probabilities", "float32", 3))


def test_the_key_depends_on_every_fact_and_not_on_their_order():
    assert key_of({"a": 1, "b": [2, None]}) == key_of({"b": [2, None], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_a_journal_comes_back_as_it_went(tmp_path):
    journal = Journal({"tile": 64, "scaling": [[0.0], [1.0]]}, band=512, panel=1024).noted("halved").noted("halved")
    journal.write(tmp_path)
    again = Journal.read(tmp_path)
    assert again == journal
    assert again.key == journal.key
    assert again.notes == ("halved",)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 10**5, '{"facts": {}}', '{"digest": []}'])
def test_a_journal_that_is_damaged_or_foreign_is_refused_and_stays(tmp_path, content):
    (tmp_path / "journal.json").write_text(content)
    with pytest.raises(OutputError, match=r"journal.json: is damaged, or is not a journal") as caught:
        Journal.read(tmp_path)
    assert f"move {tmp_path} away" in caught.value.hint
    assert (tmp_path / "journal.json").read_text() == content


def test_every_change_of_a_journal_is_noticed(tmp_path):
    Journal({"tile": 64, "scaling": [[0.0], [1.0]]}, band=512, panel=1024).write(tmp_path)
    path = tmp_path / "journal.json"
    path.write_text(path.read_text().replace("1024", "1023"))
    with pytest.raises(OutputError, match="is damaged"):
        Journal.read(tmp_path)


def test_a_lock_leaves_nothing_where_nothing_was_begun(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out) as folder:
        assert folder == folder_of(out)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_unfinished_work_stays_and_can_be_cleared(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out) as folder:
        Journal({}, 1, 1).write(folder)
        (folder / "0-0-1x1.class.tif").write_text("")
    with locked(out) as folder:
        assert (folder / "0-0-1x1.class.tif").exists()
        clear(folder)
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("removed", range(4))
def test_a_folder_of_which_a_killed_process_removed_a_part_is_still_ours(tmp_path, monkeypatch, removed):
    out, done = tmp_path / "map.tif", []

    def remove(path):
        if len(done) == removed:
            raise KeyboardInterrupt
        done.append(path)
        path.unlink()

    with locked(out) as folder:
        Journal({}, 1, 1).write(folder)
        for row in range(3):
            (folder / f"{row}-0-1x1.class.tif").write_text("")
    monkeypatch.setattr(store, "_remove", remove)
    with pytest.raises(KeyboardInterrupt), locked(out) as folder:
        clear(folder)
    with locked(out):
        pass


@pytest.mark.parametrize("name", ["notes.txt", "0-0-1x1.class.tif", "journal.json.bak"])
def test_a_folder_that_this_program_did_not_make_is_refused_and_untouched(tmp_path, name):
    folder = folder_of(tmp_path / "map.tif")
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=f"is not a folder of unfinished work, it holds {name}"):
        locked(tmp_path / "map.tif").__enter__()
    assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_files_of_others_in_a_folder_of_ours_stay(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out) as folder:
        Journal({}, 1, 1).write(folder)
        for name in ("notes.txt", "0-0-1x1.class.tif"):
            (folder / name).write_text("")
    with locked(out) as folder:
        Parts(folder, PLANES, "key").keep_only([])
        clear(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder_of(tmp_path / "map.tif").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        locked(tmp_path / "map.tif").__enter__()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_one_holds_the_lock_and_its_message_names_the_output(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out), pytest.raises(OutputError, match=r"map.tif: another process is writing it"), locked(out):
        pass
    with locked(out):
        pass


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be made"), locked(tmp_path / "file" / "map.tif"):
        pass


def scene_of(height, width):
    rng = np.random.default_rng(height * 1000 + width)
    return {
        "class": rng.integers(0, 5, (1, height, width)).astype(np.uint8),
        "probabilities": rng.random((3, height, width)).astype(np.float32),
    }


@settings(max_examples=25)  # every part is synced to disk
@given(height=st.integers(1, 50), width=st.integers(1, 30), data=st.data())
def test_strips_of_any_height_become_units_and_units_the_whole(tmp_path_factory, height, width, data):
    band, panel = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    parts = Parts(tmp_path_factory.mktemp("parts"), PLANES, "key")
    planes = scene_of(height, width)
    units = tiling.blocks(height, width, band=band, panel=panel)
    for chain in tiling.chains(units):
        builder = UnitBuilder(PLANES, chain)
        row = 0
        while row < height:
            count = min(data.draw(st.integers(1, 20)), height - row)
            cols = slice(chain[0].col, chain[0].right)
            strip = {name: array[:, row : row + count, cols] for name, array in planes.items()}
            for unit, finished in builder.add(row, strip, count):
                assert not parts.has(unit)
                parts.write(unit, finished)
                assert parts.has(unit)
            row += count
    for plane in PLANES:
        strips = list(parts.strips(units, plane))
        assert [row for row, _ in strips] == [row for row, _ in tiling.spans(height, band)]
        np.testing.assert_array_equal(np.concatenate([s for _, s in strips], axis=1), planes[plane.name])


def test_rows_without_a_valid_pixel_are_blank():
    (unit,) = tiling.blocks(4, 5, band=4, panel=5)
    builder = UnitBuilder(PLANES, [unit])
    ((_, finished),) = builder.add(0, None, 4)
    assert (finished["class"] == 255).all()
    assert np.isnan(finished["probabilities"]).all()


def test_a_part_that_is_cut_short_or_foreign_counts_as_missing(tmp_path):
    parts = Parts(tmp_path, PLANES, "key")
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    assert not parts.has(unit)
    parts.write(unit, scene_of(8, 8))
    paths = [parts.path(unit, plane) for plane in PLANES]
    for path in paths:
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b"not a part"):
            path.write_bytes(damaged)
            assert not parts.has(unit)
        path.write_bytes(whole)
        assert parts.has(unit)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_part_with_one_changed_byte_counts_as_missing(tmp_path):
    parts = Parts(tmp_path, PLANES, "key")
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    parts.write(unit, scene_of(8, 8))
    path = parts.path(unit, PLANES[1])
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not parts.has(unit), place


def test_a_part_of_another_map_or_of_another_place_counts_as_missing(tmp_path):
    parts = Parts(tmp_path, PLANES, "key")
    first, second = tiling.blocks(16, 8, band=8, panel=8)
    parts.write(first, scene_of(8, 8))
    assert parts.has(first)
    assert not Parts(tmp_path, PLANES, "other").has(first)
    for plane in PLANES:
        parts.path(second, plane).write_bytes(parts.path(first, plane).read_bytes())
    assert not parts.has(second)


def test_a_part_with_damaged_data_is_an_output_error(tmp_path):
    parts = Parts(tmp_path, PLANES, "key")
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    parts.write(unit, scene_of(8, 8))
    path = parts.path(unit, PLANES[1])
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(200))
    with pytest.raises(OutputError, match="cannot be read again"):
        list(parts.strips([unit], PLANES[1]))


def test_parts_know_how_often_each_class_occurs(tmp_path):
    parts, planes = Parts(tmp_path, PLANES, "key"), scene_of(20, 30)
    units = tiling.blocks(20, 30, band=8, panel=16)
    for unit in units:
        parts.write(unit, {name: array[:, unit.slices[0], unit.slices[1]] for name, array in planes.items()})
    np.testing.assert_array_equal(parts.counts(units, PLANES[0]), np.bincount(planes["class"].ravel(), minlength=256))


def test_no_folder_is_an_output_error(tmp_path):
    parts = Parts(tmp_path / "gone", PLANES, "key")
    (unit,) = tiling.blocks(8, 8, band=8, panel=8)
    with pytest.raises(OutputError, match="could not be written"):
        parts.write(unit, scene_of(8, 8))


def test_notes_of_many_threads_are_all_in_the_journal(tmp_path):
    notes = JournalNotes(tmp_path)
    notes("before the journal")
    notes.added(Journal({}, 1, 1)).write(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(notes, map(str, range(40))))
    assert set(Journal.read(tmp_path).notes) == {"before the journal", *map(str, range(40))}


@pytest.mark.slow
def test_two_containers_with_one_process_number_tear_no_part(tmp_path):
    folder, mounts = tmp_path / "shared", [tmp_path / "one", tmp_path / "other"]
    folder.mkdir()
    for mount in mounts:
        mount.symlink_to(folder)
    heard: list[str] = []
    with helpers(write_as_process_one, (mounts, tiling.Window(0, 0, 200, 300), "key", 90), 3, heard.append) as others:
        others.wait(lambda _: None)
    assert heard == ["whole"] * 180
    assert [path.name for path in folder.iterdir()] == ["0-0-200x300.class.tif"]
