"""The app as a process of its own with the public limits, and pages in Chromium whose consoles are watched."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.running_app import running_app

# gradio 6.31 counts the seconds of every event on its way, sixty times a second, also where nothing shows them. The
# count that is shown while a page loads never ends (StatusTracker.svelte does not stop it when it goes), and takes a
# tenth of a core for each open page. Counts that nobody sees are dropped here; what the app can add to its page comes
# too late to do so.
COUNT = r"performance\.now\(\)-[^;]{1,20}/1e3"
_NO_UNSEEN_COUNTS = f"""
  const frame = window.requestAnimationFrame.bind(window);
  const count = new RegExp(String.raw`{COUNT}`);
  const seen = () => document.querySelector("[data-testid='status-tracker']:not(.hide)");
  window.requestAnimationFrame = (work) => (count.test(String(work)) && !seen() ? 0 : frame(work));
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """The cache of the running app, empty before it starts."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def server(cache, tmp_path_factory) -> Iterator[str]:
    """The address of a running app."""
    folder = tmp_path_factory.mktemp("app")
    with running_app(folder, CEDKV_PUBLIC="1", CEDKV_CACHE=str(cache)) as address:
        yield address
    assert "Traceback" not in (folder / "log.txt").read_text()


@pytest.fixture
def page(browser, server) -> Iterator:
    """A fresh session on the app's page. Fails the test on any console message, page error or foreign request."""
    yield from open_page(browser, server)


def open_page(browser, address: str, **context_options) -> Iterator:
    """A page whose model has been loaded."""
    with watched(browser, address, **context_options) as (page, _):
        yield page


@contextmanager
def watched(browser, address: str, **context_options) -> Iterator[tuple]:
    """A page whose model has been loaded, and what it has complained of. There must be nothing when it is closed."""
    context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **context_options})
    context.add_init_script(_NO_UNSEEN_COUNTS)
    page = context.new_page()
    page.set_default_timeout(180_000)  # for what never comes, on a busy machine
    complaints = []
    page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if local(r.url, address) else complaints.append(f"asks {r.url}"))
    try:
        page.goto(address)
        page.locator("#top .ck-dot.ready").wait_for(timeout=600_000)  # the first waits for the model's conversion
        yield page, complaints
    finally:
        context.close()
    assert complaints == []


class Opened:
    """Pages that several tests look at, each opened once: a page costs more than what is looked at in it."""

    def __init__(self, browser, server: str) -> None:
        self._browser, self._server = browser, server
        self._open = ExitStack()
        self._pages: dict[str, tuple] = {}

    def page(self, query: str = "", **context_options):
        """The page of that query and those options, on its first tab and at its top."""
        name = f"{query} {context_options}"
        if name not in self._pages:
            opened = watched(self._browser, f"{self._server}/{query}", **context_options)
            self._pages[name] = self._open.enter_context(opened)
        page, _ = self._pages[name]
        page.get_by_role("tab", name="Compare").locator("visible=true").first.click()
        page.evaluate("scrollTo(0, 0)")
        return page

    def complaints(self) -> list[str]:
        return [complaint for _, complaints in self._pages.values() for complaint in complaints]

    def close(self) -> None:
        self._pages.clear()
        self._open.close()


@pytest.fixture(scope="module")
def pages_of_module(browser, server) -> Iterator[Opened]:
    opened = Opened(browser, server)
    yield opened
    opened.close()


@pytest.fixture
def opened(pages_of_module, request) -> Iterator[Opened]:
    """The pages that tests of a file look at together. Whoever changes what others look at changes it back.

    A test that fails may have left anything behind, so that the next begins with new pages.
    """
    failures = request.session.testsfailed
    yield pages_of_module
    complaints = pages_of_module.complaints()
    if complaints or request.session.testsfailed > failures:
        with suppress(AssertionError):  # said below, and by the test that failed
            pages_of_module.close()
    assert complaints == []


def local(url: str, address: str) -> bool:
    return url.startswith((address.partition("/?")[0], "data:", "blob:"))
