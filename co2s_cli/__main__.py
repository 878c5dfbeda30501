"""The `co2s` command as a process: its signals and streams are set up before anything slow is imported."""

import codecs
import contextlib
import errno
import os
import signal
import sys
from types import FrameType

from co2s_cli.errors import Co2sError, InputError, InterruptError, OutputError

_STREAM_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO}


def main() -> None:
    """Run the command line of this process and exit with its code."""
    _open_standard_streams()
    received = _listen_to_sigterm()
    try:
        _check_working_folder()
        from co2s_cli.cli import app

        app(prog_name="co2s")
    except SystemExit as ended:
        interrupted = ended.code == InterruptError.exit_code
        _leave(128 + signal.SIGTERM if interrupted and received else ended.code)
    except KeyboardInterrupt:  # while the command line itself was imported
        _fail(InterruptError("interrupted"), 128 + signal.SIGTERM if received else InterruptError.exit_code)
    except Co2sError as error:
        _fail(error, error.exit_code)
    except OSError as error:
        if error.errno not in _STREAM_ERRORS or error.filename is not None:
            raise
        _fail(OutputError(f"standard output: cannot be written ({error.strerror})"), OutputError.exit_code)


def _open_standard_streams() -> None:
    """Give streams that were closed at the start a null device, so that no output file takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    codecs.register_error("co2s", _as_bytes_or_escaped)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="co2s")  # type: ignore[union-attr]


def _as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Names of files leave as the bytes that they are; what the locale cannot encode is escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _listen_to_sigterm() -> list[int]:
    """Let SIGTERM do what Ctrl-C does; the list that is returned holds it once it has come.

    Under torchrun the signal means that another process has failed: there the training itself listens to it.
    """
    received: list[int] = []
    process = os.getpid()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked helper: its parent does what is to be done
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    if os.environ.get("WORLD_SIZE", "1") == "1":
        signal.signal(signal.SIGTERM, interrupt)
    return received


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise InputError("the working directory no longer exists", hint="cd to a folder that exists") from error


def _fail(error: Co2sError, code: int) -> None:
    with contextlib.suppress(OSError):
        print(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)  # noqa: T201
    _leave(code)


def _leave(code: object) -> None:
    """Exit; output that cannot be flushed any more is an error of its own, not one of the interpreter's end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code in (0, None):
            _fail(OutputError(f"standard output: cannot be written ({error.strerror})"), OutputError.exit_code)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
