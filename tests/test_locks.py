"""One writer at a time in a folder, by the kernel or by a file, and nothing left behind."""

import errno
import os
import socket
import subprocess
import sys

import psutil
import pytest

from co2s_cli import locks
from co2s_cli.errors import OutputError
from co2s_cli.locks import LOCK, OWNER, check_free, only_writer


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path):
    with only_writer(tmp_path):
        for refused in (only_writer(tmp_path).__enter__, lambda: check_free(tmp_path)):
            with pytest.raises(OutputError, match="another process is writing it"):
                refused()
    with only_writer(tmp_path):
        pass
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_made_and_stay_empty_go_again_others_stay(tmp_path):
    with only_writer(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with only_writer(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").write_text("")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]
    (tmp_path / "mine").mkdir()
    with only_writer(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_the_lock_dies_with_its_process(tmp_path):
    code = (
        "import os, sys, pathlib; from co2s_cli.locks import only_writer\n"
        "with only_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(OutputError, match="another process"):
        check_free(tmp_path)
    process.kill()
    process.communicate()
    check_free(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"), only_writer(tmp_path / "file" / "run"):
        pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="cannot write to this folder"), only_writer(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without kernel locks."""

    def refused(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", refused)


@pytest.mark.usefixtures("no_flock")
def test_without_kernel_locks_a_file_names_the_owner_and_goes_with_it(tmp_path, caplog):
    with only_writer(tmp_path):
        assert (tmp_path / OWNER).read_text().startswith(f"{socket.gethostname()} {os.getpid()}@")
        with pytest.raises(OutputError, match="another process is writing it"):
            only_writer(tmp_path).__enter__()
    assert "this file system has no locks" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_flock")
def test_an_owner_file_of_a_living_process_or_of_another_host_refuses(tmp_path):
    (tmp_path / OWNER).write_text(locks._process_label(os.getppid()))
    with pytest.raises(OutputError, match="another process is writing it"), only_writer(tmp_path):
        pass
    (tmp_path / OWNER).write_text("elsewhere 17@0.00")
    with pytest.raises(OutputError, match=r"process 17.* on elsewhere is writing it") as caught, only_writer(tmp_path):
        pass
    assert str(tmp_path / OWNER) in caught.value.hint


@pytest.mark.usefixtures("no_flock")
def test_an_owner_file_of_a_dead_process_does_not_refuse_even_if_its_number_is_taken(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    earlier = psutil.Process().create_time() - 60
    for process in (f"{int(ended.stdout)}@{earlier:.2f}", f"{os.getppid()}@{earlier:.2f}", f"{os.getpid()}@1.00", "x"):
        (tmp_path / OWNER).write_text(f"{socket.gethostname()} {process}")
        with only_writer(tmp_path):
            assert (tmp_path / OWNER).read_text() == locks._process_label(os.getpid())


def test_a_lock_that_fails_otherwise_tells_the_reason(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    with pytest.raises(OutputError, match="cannot be locked"), only_writer(tmp_path):
        pass
