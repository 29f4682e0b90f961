"""The frame of the house: locked requirements, the direction of imports, no test left out in CI."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from cedkv.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# The floors from the ground up. A module may import from its own floor and from those below it.
FLOORS = [
    {"cedkv.version", "cedkv.openmp", "cedkv.errors", "cedkv.files", "cedkv.labels", "cedkv.provenance"},
    {"cedkv.extras"},
    {"cedkv.state", "cedkv.metrics", "cedkv.config", "cedkv.report", "cedkv.events", "cedkv.ledger"},
    {"cedkv.optim"},
    {"cedkv.lm"},
    {"cedkv.episodes", "cedkv.serve"},
    {"cedkv.calibration", "cedkv.evaluation", "cedkv.probe", "cedkv.harm"},
    {"cedkv.slots", "cedkv.wmtp"},
    {"cedkv.compressors"},
    {"cedkv.methods"},
    {"cedkv.extractor"},
    {"cedkv.gate"},
    {"cedkv.bench"},
    {"cedkv.session"},
    {"cedkv.sweep"},
    {"cedkv"},
    {"cedkv.cli"},
    {"cedkv.__main__", "components"},
    {"app"},
]
FLOOR_OF = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def requirements(*filenames: str) -> dict[str, str]:
    """The version specifier of every package in requirements files."""
    lines = "".join((ROOT / filename).read_text(encoding="utf-8") for filename in filenames).splitlines()
    named = (re.match(r"[\w.-]+", line) for line in lines if not line.startswith(("#", "-r ")))
    return {normalised(name[0]): name.string[name.end() :] for name in named if name}


def ranges(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for itself, without and with extras."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return [requirement for lines in lists for requirement in map(Requirement, lines) if requirement.name != "cedkv"]


def needed(wanted: Iterable[Requirement]) -> dict[str, list[Requirement]]:
    """All that packages and their own requirements ask for, by name, as the installed ones say."""
    found: dict[str, list[Requirement]] = {}
    done, ahead = set(), list(wanted)
    while ahead:
        requirement = ahead.pop()
        name = normalised(requirement.name)
        found.setdefault(name, []).append(requirement)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in done:
                done.add((name, extra))
                own = map(Requirement, requires(name) or [])
                ahead += [each for each in own if each.marker is None or each.marker.evaluate({"extra": extra})]
    return found


# A package of its own, installed beside vLLM; its tests say what it may import.
CONNECTOR = ROOT / "cedkv/serve/vllm_connector"


def normalised(name: str) -> str:
    """A package's name as the registry compares it: `PyYAML` is `pyyaml`, `huggingface_hub` has a hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def source_files(root: Path) -> list[Path]:
    files = [*(root / "cedkv").rglob("*.py"), *(root / "components").rglob("*.py"), root / "app.py"]
    return sorted(file for file in files if file.exists())


def module_name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def nodes_of(source: bytes, file: str) -> list[ast.AST]:
    """All that a file says, parsed once for the tests that ask."""
    return list(ast.walk(ast.parse(source, file)))


def imported_modules(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of all that a file imports, anywhere in it, by name too; `from a import b` gives `a.b`."""
    package = list(file.relative_to(root).parent.parts)
    for node in nodes_of(file.read_bytes(), str(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            origin += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join([*origin, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in vars(node.func).values():
            yield from ((node.lineno, name.value) for name in node.args[:1] if isinstance(name, ast.Constant))


def room_of(module: str, root: Path) -> str:
    """The part of the house that a module, or a name imported from one, belongs to."""
    head, *rest = module.split(".")
    if head == "cedkv" and rest:
        inside = root / "cedkv" / rest[0]
        if inside.is_dir() or inside.with_suffix(".py").exists():
            return f"cedkv.{rest[0]}"
    return head


def imports_of_modules(root: Path) -> dict[str, set[str]]:
    """The modules of the house that each of its modules imports, anywhere in it."""
    files = {module_name(file, root): file for file in source_files(root)}
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        names = (name.split(".") for _, name in imported_modules(file, root))
        origins = ([".".join(name[:length]) for length in range(len(name), 0, -1)] for name in names)
        found[module] = {next((origin for origin in tried if origin in files), module) for tried in origins} - {module}
    return found


def import_violations(root: Path) -> list[str]:
    """Every import that breaks a rule of the house, as `file:line: what is wrong`."""
    found = []
    for file in source_files(root):
        room = room_of(module_name(file, root), root)
        if room not in FLOOR_OF:
            found.append(f"{file.relative_to(root)}: {room} has no floor; give it one in FLOORS")
            continue
        for line, module in imported_modules(file, root):
            target = room_of(module, root)
            upwards = FLOOR_OF.get(target, -1) > FLOOR_OF[room]
            barred = (
                (target == "gradio" and room.startswith("cedkv"))
                or (target == "torch" and room == "components")
                or (target == "transformers" and room != "cedkv.lm")
            )
            if upwards or barred:
                found.append(f"{file.relative_to(root)}:{line}: {room} may not import {module}")
    return found


@pytest.mark.parametrize("filename", ["requirements.txt", "requirements-model.txt", "requirements-dev.txt"])
def test_every_requirement_is_locked_to_one_version(filename):
    pins = requirements(filename)
    assert pins
    for name, specifier in pins.items():
        assert re.fullmatch(r"==[0-9]+(\.[0-9]+)+(b[0-9]+|\.post[0-9]+)?", specifier), name


def test_the_package_asks_for_ranges():
    for requirement in ranges("app", "export", "mlflow", "rag", "sweep", "dev"):
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, requirement


@pytest.mark.parametrize(
    ("extras", "locks"),
    [
        (["app"], ["requirements.txt"]),
        (["app", "export", "mlflow", "rag", "sweep", "dev"], ["requirements.txt", "requirements-dev.txt"]),
    ],
)
def test_the_lock_holds_all_that_the_ranges_need_and_nothing_else(extras, locks):
    pins, wanted = requirements(*locks), needed(ranges(*extras))
    assert pins.keys() == wanted.keys()
    for name, asked in wanted.items():
        for requirement in asked:
            assert requirement.specifier.contains(pins[name].removeprefix("==")), (name, requirement)


def test_the_package_says_which_version_it_is():
    assert PROJECT["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_package_the_code_imports_is_a_requirement_of_its_own():
    engine, app = ({normalised(each.name) for each in ranges(*extras)} for extras in ([], ["app"]))
    known = sys.stdlib_module_names | {"cedkv", "components", "app"}
    distributions = packages_distributions()
    for file in source_files(ROOT):
        declared = engine if file.is_relative_to(ROOT / "cedkv") else app
        for line, module in imported_modules(file, ROOT):
            if file.parent == CONNECTOR and module.startswith("vllm."):
                continue
            top = module.partition(".")[0]
            owners = {normalised(name) for name in distributions.get(top, [])}
            assert top in known or owners & declared, f"{file.relative_to(ROOT)}:{line} imports {module}"


def test_the_space_runs_the_gradio_that_is_pinned():
    front_matter = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert requirements("requirements.txt")["gradio"] == f"=={front_matter['sdk_version']}"


def test_a_space_is_not_asked_to_install_the_embedded_model():
    models = requirements("requirements-model.txt")
    assert models and not models.keys() & requirements("requirements.txt").keys()


def test_the_engine_starts_without_gradio_and_without_extras():
    heavy = {"gradio", "peft", "mlflow", "ray", "plotly", "cedkv.lm.finetune"}
    check = f"import sys, cedkv, cedkv.__main__; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


def test_imports_run_one_way():
    assert import_violations(ROOT) == []


def test_imports_run_in_no_circle(tmp_path):
    tuple(TopologicalSorter(imports_of_modules(ROOT)).static_order())

    (tmp_path / "cedkv").mkdir()
    (tmp_path / "cedkv/__init__.py").touch()
    (tmp_path / "cedkv/one.py").write_text("from cedkv.two import b")
    (tmp_path / "cedkv/two.py").write_text("def late():\n    from cedkv.one import a")
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(imports_of_modules(tmp_path)).static_order())


def test_no_file_is_over_300_lines():
    long = {
        str(file): n for file in source_files(ROOT) if (n := len(file.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert long == {}


def test_the_rooms_of_a_session_are_small():
    long = {f.name: n for f in (ROOT / "cedkv/session").glob("*.py") if (n := len(f.read_text().splitlines())) >= 200}
    assert long == {}


@pytest.mark.parametrize(
    ("file", "statement", "allowed"),
    [
        ("cedkv/lm/load.py", "from cedkv.state.prefix import KVPrefix", True),
        ("cedkv/lm/load.py", "from .rope import rotate", True),
        ("cedkv/lm/load.py", "import transformers", True),
        ("cedkv/methods/ced.py", "from ..optim import loop", True),
        ("components/tab.py", "from cedkv import run_gate", True),
        ("app.py", "import gradio, components.tab", True),
        ("cedkv/lm/load.py", "import cedkv.methods.ced", False),
        ("cedkv/lm/load.py", "from cedkv import gate", False),
        ("cedkv/lm/load.py", "from cedkv import run_gate", False),
        ("cedkv/lm/load.py", "from ..episodes import Episode", False),
        ("cedkv/lm/load.py", "def late():\n    from .. import methods", False),
        ("cedkv/state/prefix.py", "from transformers import DynamicCache", False),
        ("cedkv/state/prefix.py", "import importlib\nimportlib.import_module('cedkv.lm.load')", False),
        ("cedkv/state/prefix.py", "from importlib import import_module\nimport_module('cedkv.lm')", False),
        ("cedkv/gate.py", "import gradio as gr", False),
        ("cedkv/gate.py", "from components import tab", False),
        ("cedkv/attic.py", "import json", False),
        ("components/tab.py", "import torch.nn.functional as F", False),
        ("components/tab.py", "import app", False),
    ],
)
def test_an_import_against_the_rules_is_found(tmp_path, file, statement, allowed):
    house = ["state/prefix", "lm/load", "episodes/episode", "optim/loop", "methods/ced", "gate"]
    for path in [*(f"cedkv/{room}.py" for room in house), "components/tab.py", "app.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert import_violations(tmp_path) == []

    (tmp_path / file).write_text(statement)
    violations = import_violations(tmp_path)
    assert not violations if allowed else len(violations) == 1 and violations[0].startswith(file)


SKIPPING_TEST = """
import pytest

def test_that_passes():
    assert True

def test_that_needs_what_is_missing():
    pytest.skip("not here")
"""
HUB_TEST = "tests/phase2/test_phase2_hf_smoke_optin.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "file", "source", "passes"),
    [
        ({}, "tests/test_it.py", SKIPPING_TEST, True),
        ({"CI": "true"}, "tests/test_it.py", SKIPPING_TEST, False),
        ({"CI": "true", "PYTEST_ADDOPTS": "-n 2"}, "tests/test_it.py", SKIPPING_TEST, False),
        ({"CEDKV_NO_SKIPS": "1"}, "tests/test_it.py", SKIPPING_TEST, False),
        ({"CI": "true"}, "tests/test_it.py", "import pytest\npytest.importorskip('no_such_package')", False),
        ({"CI": "true"}, "tests/test_it.py", "import pytest\ndef test_it():\n    pytest.xfail('no')", False),
        ({"CI": "true"}, HUB_TEST, SKIPPING_TEST, True),
        ({"CI": "true", "RUN_HF_TESTS": "1"}, HUB_TEST, SKIPPING_TEST, False),
    ],
)
def test_a_skipped_test_fails_the_run_in_ci(tmp_path, environment, file, source, passes):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source)
    (tmp_path / "tests/test_more.py").write_text("def test_more():\n    assert True\n")
    for helper in ("conftest.py", "shapes.py"):
        shutil.copy(ROOT / "tests" / helper, tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    decisive = {"CI", "CEDKV_NO_SKIPS", "RUN_HF_TESTS"}
    outside = {name: value for name, value in os.environ.items() if name not in decisive}

    command = [sys.executable, "-m", "pytest", "tests"]
    run = subprocess.run(command, cwd=tmp_path, env=outside | environment, capture_output=True, text=True)
    closing_line = run.stdout.splitlines()[-1]

    assert run.returncode == (0 if passes else 1), run.stdout
    assert re.search(r"\d passed, 1 (skipped|xfailed) in ", closing_line)
    assert ("this run must skip nothing" in run.stdout) == (not passes)


WORKER = "import os, pathlib\n" + "".join(
    f"def test_{n}():\n    pathlib.Path(__file__ + '.{n}').write_text(os.environ['PYTEST_XDIST_WORKER'])\n"
    for n in range(4)
)


@pytest.mark.slow
def test_a_file_or_a_room_that_shares_is_one_workers(tmp_path):
    for file in ("app/test_a.py", "app/test_b.py", "other/test_a.py", "other/test_b.py"):
        (tmp_path / "tests" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / file).write_text(WORKER)
    for helper in ("conftest.py", "shapes.py"):
        shutil.copy(ROOT / "tests" / helper, tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run([sys.executable, "-m", "pytest", "-n", "2", "tests"], cwd=tmp_path, check=True)
    workers = {
        group: {path.read_text() for path in (tmp_path / "tests").glob(f"{group}.[0-9]")}
        for group in ("app/*", "other/test_a.py", "other/test_b.py")
    }
    assert [len(each) for each in workers.values()] == [1, 1, 1] and len(set().union(*workers.values())) == 2


def test_make_names_every_target():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^  ([a-z-]+) ", shown, re.MULTILINE)
    assert targets == [
        "help", "app", "test", "coverage", "check", "gate", "lint", "types", "bench", "lock", "serve-vllm",
        "serve-vllm-test", "serve-llama-test", "clean",
    ]  # fmt: skip


def test_make_refuses_an_old_python(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    old = tmp_path / "python3.10"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10); $2"\n')
    old.chmod(0o755)
    run = subprocess.run(["make", "app", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert f"CED-KV needs Python 3.11 or newer; '{old}' is not" in run.stderr
    assert not (tmp_path / ".venv").exists()
