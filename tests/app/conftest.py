"""The app as a process of its own with the public limits, and a page in Chromium that watches its console."""

from collections.abc import Iterator

import pytest

from benchmarks.running_app import running_app

# Aborted when a page is left: the stream of queue events, which the browser reports as failed.
EXPECTED_TO_BREAK = ("/queue/data",)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a running app."""
    folder = tmp_path_factory.mktemp("app")
    with running_app(folder, CEDKV_PUBLIC="1") as address:
        yield address
    assert "Traceback" not in (folder / "log.txt").read_text()


@pytest.fixture
def page(browser, server) -> Iterator:
    """A fresh session on the app's page. Fails the test on any console message, page error or foreign request."""
    yield from open_page(browser, server)


def open_page(browser, address: str, ready_ms: float = 180_000, **context_options) -> Iterator:
    """A page whose model has been loaded within `ready_ms` milliseconds."""
    context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **context_options})
    page = context.new_page()
    page.set_default_timeout(180_000)  # for what never comes, on a busy machine
    complaints = []
    page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if local(r.url, address) else complaints.append(f"asks {r.url}"))
    try:
        page.goto(address)
        page.locator("#top .ck-dot.ready").wait_for(timeout=ready_ms)
        yield page
    finally:
        context.close()
    assert complaints == []


def local(url: str, address: str) -> bool:
    return url.startswith((address.partition("/?")[0], "data:", "blob:"))
