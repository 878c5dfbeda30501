"""A hub on this machine that answers as huggingface.co does: commits, hashes of files, a redirect to the blobs."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Answers(http.server.BaseHTTPRequestHandler):
    """`/ORG/NAME/resolve/REVISION/FILE` leads to `/blobs/HASH`."""

    files: dict[str, bytes]
    sent: bytes | None
    asked: list[str]

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        by_hash = {hashlib.sha256(content).hexdigest(): content for content in self.files.values()}
        repo, _, rest = self.path.strip("/").partition("/resolve/")
        blob = by_hash.get(self.path.removeprefix("/blobs/"))
        content = self.files.get(f"{repo}/{rest.partition('/')[2]}") if blob is None else self.sent or blob
        self.send_response(404 if content is None else 302 if blob is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if content is None:
            known = any(name.startswith(f"{repo}/") for name in self.files)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        else:
            digest = hashlib.sha256(content if blob is None else blob).hexdigest()
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Linked-ETag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(content)))
            if blob is None:
                self.send_header("Location", f"/blobs/{digest}")
        self.send_header("Content-Length", "0" if blob is None else str(len(content or b"")))
        self.end_headers()
        if blob is not None and with_body:
            self.wfile.write(content or b"")

    def log_message(self, *arguments):
        """Silence."""


class Hub:
    """A running hub and the cache of its clients."""

    def __init__(self, cache: Path) -> None:
        self.files: dict[str, bytes] = {}
        """Content by `ORG/NAME/FILE`."""
        self.asked: list[str] = []
        """Every request."""
        self.cache = cache
        self.handler = type("Answers", (_Answers,), {"files": self.files, "asked": self.asked, "sent": None})

    def send_instead(self, content: bytes) -> None:
        """Send other bytes than were announced."""
        self.handler.sent = content


@contextmanager
def local_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """A hub that the client in this process asks in place of the real one, with an empty cache."""
    hub = Hub(folder / "hub")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), hub.handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        use_hub(monkeypatch, address, hub.cache)
        yield hub
        server.shutdown()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Point the hub's client of this process to an address and a cache."""
    constants = "huggingface_hub.constants"
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(f"{constants}.ENDPOINT", address)
    monkeypatch.setattr(
        f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
