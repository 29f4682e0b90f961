"""The pictures in docs/screenshots, taken from the running app in headless Chromium.

`python benchmarks/screenshots.py` starts the app on a free port, opens the shipped example, and writes PNGs that are
1280 pixels wide.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.running_app import running_app

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1280, 900
PHONE = ViewportSize(width=390, height=844)
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"]
# Plots grow to the width they find and fonts settle within this time, seconds.
_SETTLE = 1.5


@contextmanager
def opened(
    browser: Browser, address: str, scheme: Literal["light", "dark"] = "light", **options: Any
) -> Iterator[Page]:
    """The page with the example shown and the model loaded."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme, **options)
    page = context.new_page()
    page.goto(f"{address}/?__theme={scheme}")
    page.locator("#top .ck-dot.ready").wait_for(timeout=120_000)
    page.locator("#headline .ck-verdict").first.wait_for()
    yield page
    context.close()


def open_tab(page: Page, name: str, ready: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.locator(ready).first.wait_for()


def save_from(page: Page, top: str, path: Path) -> None:
    """A picture that begins with a part of the page: what stands above the tabs is in the first one."""
    page.locator(top).evaluate("part => part.scrollIntoView()")
    page.mouse.move(0, 0)  # a plot that is pointed at shows its tools
    save(page, path)


def save(page: Page, path: Path) -> None:
    time.sleep(_SETTLE)
    page.screenshot(path=path)


def take(browser: Browser, address: str, folder: Path) -> None:
    """Write every picture."""
    with opened(browser, address) as page:
        save(page, folder / "compare.png")
        save_from(page, "#columns", folder / "why.png")
        open_tab(page, "Slots", "#slot-heatmap .heatmaplayer image")
        page.locator("#demo-text .output[style*=rgb]").first.click()
        page.locator("#slot-card h3", has_text=re.compile(r"slot \d")).wait_for()
        save_from(page, "#tabs", folder / "slots.png")
        open_tab(page, "Gate", "#gate-table tr[data-name]")
        save_from(page, "#tabs", folder / "gate.png")
        open_tab(page, "Documents", "#ask-document")
        page.locator("#ask-document").click()
        page.locator("#document-off", has_text="an ordinary paragraph").wait_for(timeout=300_000)
        save_from(page, "#document-answers", folder / "documents.png")
    with opened(browser, address, "dark") as page:
        open_tab(page, "Collapse", "#cosine-values .heatmaplayer image")
        save_from(page, "#tabs", folder / "dark.png")
    take_phone(browser, address, folder / "phone.png")


def take_phone(browser: Browser, address: str, path: Path) -> None:
    """Three screens of a phone side by side: the form in its drawer, the answers, and the slots."""
    screens = []
    with tempfile.TemporaryDirectory() as scratch, opened(browser, address) as page:
        page.set_viewport_size(PHONE)
        page.get_by_role("link", name="Set up a run").click()
        screens.append(Path(scratch, "rail.png"))
        save(page, screens[-1])
        page.get_by_role("link", name="close").click()
        for tab, ready, top in (
            ("Compare", "#columns .ck-col", "#query"), ("Slots", "#demo-text [data-token]", "#demo-text"),
        ):  # fmt: skip
            page.locator("#headline").scroll_into_view_if_needed()
            open_phone_tab(page, tab, ready)
            page.locator(top).evaluate("e => e.scrollIntoView()")
            screens.append(Path(scratch, f"{tab}.png"))
            save(page, screens[-1])
        join(browser, screens, path)


def open_phone_tab(page: Page, name: str, ready: str) -> None:
    """Open a tab by its visible button: on a narrow page gradio also keeps an invisible row of them to measure."""
    page.get_by_role("tab", name=name).locator("visible=true").first.click()
    page.locator(ready).first.wait_for()


def join(browser: Browser, screens: list[Path], path: Path) -> None:
    """The screens in one row, as wide as the other pictures."""
    page = browser.new_page(viewport={"width": WIDTH, "height": PHONE["height"] + 32})
    images = "".join(
        f'<img width={PHONE["width"]} src="data:image/png;base64,{b64encode(s.read_bytes()).decode()}">'
        for s in screens
    )
    page.set_content(
        '<body style="margin:0;padding:16px 0;display:flex;justify-content:space-evenly;background:#d8dde3">'
        f"{images}</body>"
    )
    page.screenshot(path=path)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots", help="folder for the pictures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    executable = shutil.which("chromium")
    if executable is None:
        raise SystemExit("there is no 'chromium' on the PATH: apt-get install chromium fonts-dejavu")
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_app(Path(scratch)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        take(browser, address, folder)
        browser.close()
    for picture in sorted(folder.glob("*.png")):
        print(f"{picture} {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
