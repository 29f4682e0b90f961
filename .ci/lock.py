"""Lock the requirements: what pip would install today within pyproject.toml's ranges, each at one version.

    make lock

Writes requirements.txt (`cedkv[app]`, for the app, CI and a Space) and requirements-dev.txt (what `cedkv[dev]` adds).
torch keeps the version that is locked already, without the label of a build: on Linux a newer one means gigabytes of
CUDA and a new set of numbers, so it is raised by hand.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK, DEV_LOCK = ROOT / "requirements.txt", ROOT / "requirements-dev.txt"
HEADS = {
    LOCK: "# Locked by `make lock` from pyproject.toml: cedkv[app], all that a Hugging Face Space installs.\n"
    "# The embedded model is a package of its own, listed in requirements-model.txt.\n",
    DEV_LOCK: "# Locked by `make lock` from pyproject.toml: what cedkv[dev] needs beside requirements.txt.\n"
    "-r requirements.txt\n",
}


def normalised(name: str) -> str:
    """A package's name as the registry compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(extra: str, pins: dict[str, str]) -> dict[str, str]:
    """The version of every package that `cedkv[extra]` needs, by name; those in `pins` stay as they are."""
    fixed = [f"{name}=={version}" for name, version in pins.items()]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    report = subprocess.check_output([*command, "--report", "-", *fixed, f"{ROOT}[{extra}]"], text=True)
    found = (item["metadata"] for item in json.loads(report)["install"])
    return {normalised(item["name"]): item["version"].partition("+")[0] for item in found} | pins


def write(path: Path, versions: dict[str, str]) -> None:
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items()) if name != "cedkv"]
    path.write_text(HEADS[path] + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    torch = re.search(r"^torch==([\w.]+)$", LOCK.read_text(encoding="utf-8"), re.MULTILINE)[1]
    app = resolve("app", {"torch": torch})
    app.pop("cedkv", None)
    dev = resolve("dev", app)
    write(LOCK, app)
    write(DEV_LOCK, {name: version for name, version in dev.items() if name not in app})
