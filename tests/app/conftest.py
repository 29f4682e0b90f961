"""The app as a process of its own with the public limits, and a page in Chromium that watches its console."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Aborted when a page is left: the stream of queue events, which the browser reports as failed.
EXPECTED_TO_BREAK = ("/queue/data",)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a running app."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "CEDKV_PUBLIC": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "app.py"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_listening(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in (folder / "log.txt").read_text()


def wait_until_listening(address: str, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError("the app did not start")


@pytest.fixture
def page(browser, server) -> Iterator:
    """A fresh session on the app's page. Fails the test on any console message, page error or foreign request."""
    yield from open_page(browser, server)


def open_page(browser, address: str, **context_options) -> Iterator:
    context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **context_options})
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints = []
    page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if local(r.url, address) else complaints.append(f"asks {r.url}"))
    page.goto(address)
    page.locator("#top .ck-dot.ready").wait_for()
    yield page
    context.close()
    assert complaints == []


def local(url: str, address: str) -> bool:
    return url.startswith((address.partition("/?")[0], "data:", "blob:"))
