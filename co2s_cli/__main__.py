"""Start the `co2s` command: set up signals and streams of the process before anything slow is imported."""

import codecs
import contextlib
import errno
import logging
import os
import signal
import sys
from types import FrameType

from co2s_cli.errors import Co2sError, InputError, InterruptError, OutputError
from co2s_cli.log import PACKAGE

_STREAM_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO}
"""Error numbers of a standard stream that cannot be written."""


def main() -> None:
    """Run the command line of this process and exit with its exit code."""
    _open_standard_streams()
    sys.unraisablehook = _log_unraisable
    received = _listen_to_signals()
    try:
        _check_working_folder()
        from co2s_cli.cli import app

        app(prog_name="co2s")
    except SystemExit as ended:
        interrupted = ended.code == InterruptError.exit_code and received
        _exit(128 + received[0] if interrupted else ended.code)
    except (Exception, KeyboardInterrupt) as error:
        if received:  # a module whose import is interrupted may raise any error
            _exit_with_error(InterruptError("interrupted"), 128 + received[0])
        user_error = _user_error(error)
        if user_error is None:
            raise
        _exit_with_error(user_error, user_error.exit_code)


def _user_error(error: BaseException) -> Co2sError | None:
    """`error`, which left the command line, as one that a user can fix; None if it is a bug."""
    if isinstance(error, OSError) and error.errno in _STREAM_ERRORS and error.filename is None:
        return OutputError(f"standard output: cannot be written ({error.strerror})")
    return error if isinstance(error, Co2sError) else None


def _open_standard_streams() -> None:
    """Open the null device for standard streams that are closed, so that no output file gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    codecs.register_error("co2s", _as_bytes_or_escaped)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="co2s")  # type: ignore[union-attr]


def _as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encoding error handler: undecodable bytes of file names are written unchanged, other characters are escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _log_unraisable(event: "sys.UnraisableHookArgs") -> None:
    """Log with `-v` an exception that could not be raised, such as rasterio's at GDAL messages that do not decode."""
    logging.getLogger(PACKAGE).debug("%s: %r", event.object, event.exc_value)


def _listen_to_signals() -> list[int]:
    """Make SIGTERM act like Ctrl-C; the returned list fills with the numbers of received signals.

    Under torchrun SIGTERM means that another process has failed; there the training handles it itself.
    """
    received: list[int] = []
    process = os.getpid()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked helper process: its parent handles the signal
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    handled = [signal.SIGINT] if os.environ.get("WORLD_SIZE", "1") != "1" else [signal.SIGINT, signal.SIGTERM]
    for number in handled:
        if signal.getsignal(number) is not signal.SIG_IGN:  # the parent process may have switched it off
            signal.signal(number, interrupt)
    return received


def _check_working_folder() -> None:
    """Refuse to run in a working directory that has been removed."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError("the working directory no longer exists", hint="cd to a folder that exists") from error


def _exit_with_error(error: Co2sError, code: int) -> None:
    """Print an error and its hint to stderr and exit."""
    with contextlib.suppress(OSError):
        print(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)  # noqa: T201
    _exit(code)


def _exit(code: object) -> None:
    """Exit with `code`; output that cannot be flushed is reported here instead of by the interpreter as it ends."""
    try:
        sys.stderr.flush()
    except OSError:  # cannot be reported; what is left in the buffer must not change the exit code at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code in (0, None):
            _exit_with_error(
                OutputError(f"standard output: cannot be written ({error.strerror})"), OutputError.exit_code
            )
    if isinstance(code, int) and code > 128:  # exit at once after a signal: libraries take seconds to unload
        os._exit(code)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
