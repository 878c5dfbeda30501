"""Outputs appear whole under their final name, or not at all."""

import os
from pathlib import Path

import pytest

from co2s_cli.errors import OutputError
from co2s_cli.files import atomic_file, atomic_folder, check_output, check_writable, clear_leftovers


def test_a_file_appears_at_the_end_only(tmp_path):
    final = tmp_path / "out.tif"
    with atomic_file(final) as temporary:
        temporary.write_text("whole")
        assert not final.exists()
        assert temporary.name == "out.tif"
        assert temporary.parent.parent == tmp_path
    assert final.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [final]


def test_nobody_can_know_or_enter_the_temporary_folder(tmp_path):
    with atomic_file(tmp_path / "out.tif") as first, atomic_file(tmp_path / "out.tif") as second:
        assert first.parent != second.parent
        assert first.parent.stat().st_mode & 0o077 == 0
        first.write_text("first")
        second.write_text("second")


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    path = tmp_path / f"{'n' * 251}.tif"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def _killed_while_writing(path):
    """A process that ends at once while it writes a file."""
    child = os.fork()
    if child == 0:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            os._exit(1)
    os.waitpid(child, 0)


def test_what_a_killed_process_left_of_a_file_goes_before_it_is_written_again(tmp_path):
    mine, other = tmp_path / "out.tif", tmp_path / "other.tif"
    _killed_while_writing(mine)
    _killed_while_writing(other)
    assert len(list(tmp_path.iterdir())) == 2
    check_output(mine, overwrite=False)
    assert len(list(tmp_path.iterdir())) == 1
    clear_leftovers(other)
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_and_what_a_killed_process_left_of_it_goes(tmp_path):
    final = tmp_path / "out.parquet"
    final.mkdir()
    (final / "old").touch()
    child = os.fork()
    if child == 0:
        with atomic_folder(final):
            os._exit(1)
    os.waitpid(child, 0)
    clear_leftovers(final)
    assert list(tmp_path.iterdir()) == [final]
    with pytest.raises(ZeroDivisionError), atomic_folder(final) as folder:
        (folder / str(1 / 0)).touch()
    assert [path.name for path in final.iterdir()] == ["old"]
    with atomic_folder(final) as folder:
        (folder / "new").touch()
    assert [path.name for path in final.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    final = tmp_path / "out.parquet"
    final.mkdir()
    (final / "old").touch()
    rename = Path.rename

    def failing(path, target):
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="No space left"), atomic_folder(final):
        pass
    assert [path.name for path in final.iterdir()] == ["old"]


def test_what_a_living_process_writes_stays(tmp_path):
    with atomic_file(tmp_path / "out.tif") as temporary:
        temporary.write_text("half")
        clear_leftovers(tmp_path / "out.tif")
        assert temporary.exists()


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "out.bin") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "out.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_exception_leaves_what_was_there(tmp_path):
    final = tmp_path / "out.tif"
    final.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(final) as temporary:
        temporary.write_text(str(1 / 0))
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_full_disk_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No space left"), atomic_file(tmp_path / "out.tif"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_outputs_are_refused_before_any_work(tmp_path):
    taken = tmp_path / "taken.tif"
    taken.write_text("mine")
    with pytest.raises(OutputError, match="not overwritten") as caught:
        check_output(taken, overwrite=False)
    assert "--overwrite" in caught.value.hint
    check_output(taken, overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "missing" / "out.tif", overwrite=False)
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path, overwrite=True)
    assert taken.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write to this folder"):
        check_writable(tmp_path)


def test_a_folder_that_takes_no_files_is_refused():
    with pytest.raises(OutputError, match="cannot write to this folder"):
        check_writable(Path("/proc"))
