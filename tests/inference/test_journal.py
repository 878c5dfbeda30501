"""The folder of unfinished work."""

import os
import subprocess
import sys

import pytest

from co2s_cli.errors import OutputError
from co2s_cli.inference.journal import Journal, clear, folder_of, forget, key_of, locked


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


@pytest.mark.parametrize("content", ["", "{", "[]", '{"facts": {}}'])
def test_a_journal_that_was_cut_off_counts_as_none(tmp_path, content):
    (tmp_path / "journal.json").write_text(content)
    assert Journal.read(tmp_path) is None


def test_a_lock_leaves_nothing_where_nothing_was_begun(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out) as folder:
        assert folder == folder_of(out)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_unfinished_work_stays_and_can_be_cleared_and_forgotten(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out) as folder:
        (folder / "0-0-1x1.part").write_text("")
    assert (folder / "0-0-1x1.part").exists()
    with locked(out) as folder:
        clear(folder)
        assert [path.name for path in folder.iterdir()] == ["lock"]
        forget(folder)
    assert list(tmp_path.iterdir()) == []


def test_only_one_holds_the_lock(tmp_path):
    out = tmp_path / "map.tif"
    with locked(out), pytest.raises(OutputError, match="another process is writing it"), locked(out):
        pass
    with locked(out):
        pass


def test_the_lock_dies_with_its_process(tmp_path):
    out = tmp_path / "map.tif"
    code = (
        "import os, sys, pathlib; from co2s_cli.inference.journal import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(OutputError), locked(out):
        pass
    process.kill()
    process.communicate()
    with locked(out):
        pass


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be made"), locked(tmp_path / "file" / "map.tif"):
        pass
