"""The app as a process of its own, started as a user does, for whoever looks at it from outside."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def running_app(folder: Path, **environment: str) -> Iterator[str]:
    """The address of the app, which works in `folder`, writes `log.txt` there and is ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", **environment}
    address = f"http://127.0.0.1:{port}"
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "app.py"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_listening(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def wait_until_listening(address: str, process: subprocess.Popen, seconds: float = 300) -> None:
    """Return once the address answers. Raises `SystemExit` when the process ends before, or takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=30):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"the app does not answer at {address}; start `python app.py` to see why")
