"""An S3 server on loopback that fails when told to: `python bucket.py` prints its port, and serves until it is ended.

A process of its own, because GDAL waits for it with Python's lock held. `/-/share=0.3` answers that share of the
requests with 503, `/-/refused=1` all of them with 403, `/-/silent=1` says nothing; `/-/requests` tells those since
the last `/-/clear`, one a line.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Server:
    """A server that runs."""

    address: str

    def tell(self, command: str) -> str:
        """Send a command that begins with `/-/`."""
        with urllib.request.urlopen(f"{self.address}/-/{command}", timeout=10) as answer:
            return answer.read().decode()

    def requests(self) -> list[str]:
        """The requests since the last `clear`: method, path, query, range of bytes, and 503 where it failed so."""
        return self.tell("requests").splitlines()

    @contextlib.contextmanager
    def failing(self, **faults: float) -> Iterator[None]:
        """Faults while the block runs."""
        for name, value in faults.items():
            self.tell(f"{name}={float(value)}")
        try:
            yield
        finally:
            for name in faults:
                self.tell(f"{name}=0.0")

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """An object that anybody may read, in a bucket, which is made where it is missing."""
        headers = {"Authorization": "AWS x:y", "Content-Type": "image/tiff", "x-amz-acl": "public-read"}
        for name, data in ((bucket, None), (f"{bucket}/{key}", content)):
            request = urllib.request.Request(f"{self.address}/{name}", data, headers, method="PUT")
            urllib.request.urlopen(request, timeout=30).close()

    def use(self, monkeypatch) -> None:
        """Let both libraries find it, and nothing else of this machine."""
        for name in ("AWS_PROFILE", "AWS_S3_ENDPOINT", "AWS_SESSION_TOKEN", "AWS_NO_SIGN_REQUEST"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server that runs as long as the block."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()  # else a failing test would wait for it for ever


def faulty(app):
    """A WSGI application like `app`, with faults and a record of its requests."""
    faults = {"share": 0.0, "silent": 0.0, "refused": 0.0}
    requests, draw, ended = [], random.Random(0), threading.Event()

    def answer(environ, start):
        path = environ["PATH_INFO"]
        if path.startswith("/-/"):
            name, _, value = path.removeprefix("/-/").partition("=")
            text = "\n".join(requests)
            if name in faults:
                faults[name] = float(value)
            elif name == "clear":
                requests.clear()
            start("200 OK", [("Content-Type", "text/plain")])
            return [text.encode()]
        failed = draw.random() < faults["share"]
        parts = environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], environ.get("HTTP_RANGE", "")
        requests.append(" ".join((*parts, "503" if failed else "")))
        if faults["silent"]:
            ended.wait(60)
        if failed or faults["refused"]:
            start("503 Slow Down" if failed else "403 Forbidden", [("Content-Length", "0")])
            return [b""]
        return app(environ, start)

    return answer


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the server's libraries
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        """Says nothing of each request."""

        def log(self, *_):
            """Nothing."""

    application = faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()
