"""The `co2s` command as a process: its signals and streams are set up before anything slow is imported."""

import codecs
import contextlib
import errno
import logging
import os
import signal
import sys
from types import FrameType

from co2s_cli.errors import Co2sError, InputError, InterruptError, OutputError
from co2s_cli.log import OURS

_STREAM_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO}


def main() -> None:
    """Run the command line of this process and exit with its code."""
    _open_standard_streams()
    sys.unraisablehook = _note
    received = _listen_to_signals()
    try:
        _check_working_folder()
        from co2s_cli.cli import app

        app(prog_name="co2s")
    except SystemExit as ended:
        interrupted = ended.code == InterruptError.exit_code and received
        _leave(128 + received[0] if interrupted else ended.code)
    except (Exception, KeyboardInterrupt) as error:
        if received:  # modules that are interrupted while they are imported raise errors of their own
            _fail(InterruptError("interrupted"), 128 + received[0])
        known = _as_known(error)
        if known is None:
            raise
        _fail(known, known.exit_code)


def _as_known(error: BaseException) -> Co2sError | None:
    """An error that left the command line, where a user can mend it."""
    if isinstance(error, OSError) and error.errno in _STREAM_ERRORS and error.filename is None:
        return OutputError(f"standard output: cannot be written ({error.strerror})")
    return error if isinstance(error, Co2sError) else None


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


def _note(event: "sys.UnraisableHookArgs") -> None:
    """Tell with `-v` what failed where nobody could catch it, as rasterio does at messages of GDAL that are no text."""
    logging.getLogger(OURS).debug("%s: %r", event.object, event.exc_value)


def _listen_to_signals() -> list[int]:
    """Let SIGTERM do what Ctrl-C does; the list that is returned holds the signals that have come.

    Under torchrun SIGTERM means that another process has failed: there the training itself listens to it.
    """
    received: list[int] = []
    process = os.getpid()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked helper: its parent does what is to be done
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    wanted = [signal.SIGINT] if os.environ.get("WORLD_SIZE", "1") != "1" else [signal.SIGINT, signal.SIGTERM]
    for number in wanted:
        if signal.getsignal(number) is not signal.SIG_IGN:  # whoever started us may have switched it off
            signal.signal(number, interrupt)
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
        sys.stderr.flush()
    except OSError:  # nobody can be told; what is left in the buffer must not change the exit code at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code in (0, None):
            _fail(OutputError(f"standard output: cannot be written ({error.strerror})"), OutputError.exit_code)
    if isinstance(code, int) and code > 128:  # whoever sent the signal waits: libraries take seconds to unload
        os._exit(code)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
