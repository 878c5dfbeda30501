"""The command as a process: signals, closed and full streams, locales, and folders that are gone."""

import os
import signal
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "co2s_cli"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_sigterm_ends_a_command_as_control_c_does(tmp_path, number, code):
    script = (
        "import sys, os, signal, time\n"
        "from co2s_cli.jobs import sample\n"
        "def run(*_, **__):\n"
        f"    os.kill(os.getpid(), {int(number)}); time.sleep(5)\n"
        "sample.run = run\n"
        f"sys.argv = ['co2s', 'sample', {str(tmp_path)!r}]\n"
        "from co2s_cli.__main__ import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "error: interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_command_line_is_imported_is_one_line(number, code):
    script = (
        "import os, sys, time, types\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        f"            os.kill(os.getpid(), {int(number)}); time.sleep(5)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from co2s_cli.__main__ import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "error: interrupted\n")


def test_an_import_that_hides_an_interrupt_is_one_line():
    script = (
        "import os, sys\n"
        "class Hiding:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pydantic':\n"
        "            try:\n"
        f"                os.kill(os.getpid(), {int(signal.SIGINT)}); sum(range(10**7))\n"
        "            except KeyboardInterrupt:\n"
        "                raise ValueError('half imported')\n"
        "sys.meta_path.insert(0, Hiding())\n"
        "from co2s_cli.__main__ import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["--version"]])
def test_a_full_standard_output_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = run(*arguments, stdout=full)
    assert (done.returncode, done.stderr) == (
        4, "error: standard output: cannot be written (No space left on device)\n"
    )  # fmt: skip


def test_nobody_reads_standard_output():
    read, write = os.pipe()
    os.close(read)
    done = run("--help", stdout=write)
    os.close(write)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&-", ">&- 2>&-"])
def test_closed_streams_leave_the_exit_code(redirection):
    script = f'"{sys.executable}" -m co2s_cli predict {redirection}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_working_directory_that_is_gone_is_named(tmp_path):
    gone = tmp_path / "gone"
    script = f'mkdir "{gone}" && cd "{gone}" && rmdir "{gone}" && "{sys.executable}" -m co2s_cli info a.tif'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 3
    assert "error: the working directory no longer exists" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_locale_that_cannot_encode_shows_escapes():
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("predict", "--help", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0
    assert "--out" in done.stdout
    done = run("predict", "é.tif", env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: --out is missing")


@pytest.mark.parametrize("command", ["info", "vectorize", "predict", "evaluate", "pseudo-label"])
def test_a_name_that_is_too_long_is_one_line(co2s, tmp_path, command):
    long = tmp_path / ("n" * 300)
    more = {"info": [], "evaluate": [long]}.get(command, ["--out", tmp_path / "out.tif"])
    result = co2s(command, f"{long}.tif", *more)
    assert result.exit_code in (2, 3, 4, 5)
    assert result.stderr.count("error:") == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.slow
def test_names_that_are_no_text_are_no_traceback():
    done = run("info", os.fsdecode(b"\xff.tif"), stdout=subprocess.PIPE)
    assert done.returncode in (2, 3)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_what_standard_error_holds_back_does_not_change_the_exit_code():
    code = (
        "import sys; from co2s_cli.__main__ import _exit; sys.stderr = open(2, 'w', buffering=8192, closefd=False); "
        "sys.stderr.write('left in the buffer'); _exit(2)"
    )
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", code], stderr=full, check=False).returncode == 2
