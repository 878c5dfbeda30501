"""A headless Chromium, where the machine has one."""

import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--enable-logging=stderr", "--virtual-time-budget=5000",
)  # fmt: skip


def opened(page: Path, script: str = "", *, width: int = 1280, height: int = 900) -> tuple[str, list[str]]:
    """The DOM of a page after `script` has run in it, and what its console said; skips where there is no Chromium."""
    browser = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    profile = page.parent / "profile"
    copy = page.with_name("opened.html")
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [browser, *_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "--dump-dom"]
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode or not done.stdout.strip():
        pytest.skip(f"Chromium does not run here: {done.stderr[-300:]}")
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
