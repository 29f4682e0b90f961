"""Start the web app."""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

import cedkv
from cedkv.errors import ConfigError

_APP = Path(cedkv.__file__).parents[1] / "app.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")


def run(args: argparse.Namespace) -> int:
    if not _APP.is_file():
        raise ConfigError(f"{_APP} does not exist: the app is part of the repository, not of the package; clone it")
    environment = dict(os.environ)
    if args.port is not None:
        _check_free(args.port)
        environment["GRADIO_SERVER_PORT"] = str(args.port)
    # A process of its own, because the engine never imports gradio.
    return subprocess.run([sys.executable, str(_APP)], env=environment).returncode


def _check_free(port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port} cannot be used: {error}; choose another one") from error
