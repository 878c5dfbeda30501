"""A web server for a folder that serves parts of files, as object stores do: `python web.py FOLDER` prints its port."""

import functools
import http.server
import re
import sys


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Understands `Range: bytes=FIRST-LAST`."""

    left = -1

    def send_head(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted is None:
            return super().send_head()
        file = open(self.translate_path(self.path), "rb")  # noqa: SIM115 - the base class closes it
        size = file.seek(0, 2)
        first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
        file.seek(first)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.left = last - first + 1
        return file

    def copyfile(self, source, outputfile):
        outputfile.write(source.read(self.left))

    def log_message(self, *arguments):
        """One line on standard error for each request: what was asked for and the range of bytes."""
        if len(arguments) > 1 and "HTTP" in str(arguments[1]):
            print(self.command, self.path, self.headers.get("Range"), file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=sys.argv[1])) as server:
        print(server.server_port, flush=True)  # noqa: T201
        server.serve_forever()
