"""How the inspector stands being used: how soon it answers, and what it keeps in memory over many interactions.

    python benchmarks/page_use.py [--interactions 200] [--idle-minutes 60] [--out page_use.json]

A page in headless Chromium is used in rounds: a query is asked and explained, slots are looked at and mixed, OFF texts
are drawn, tabs are opened. After each round the memory of the page (after garbage collection) and of the server is
read, then both are left alone. Flat means that the last quarter of the rounds holds no more than the second one did.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import CDPSession, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.running_app import running_app
from benchmarks.screenshots import CHROMIUM_ARGS, open_tab

WORDS = ("walk", "open", "bake", "play", "call", "rain", "lift", "push")
# Growth of the median from the second to the last quarter that counts as none.
FLAT = 1.15
# When the columns and the panel below them changed: how long the explanation took is the time between the two.
_WATCH = """
() => {
  window.seen = {columns: [], why: []};
  for (const name of ['columns', 'why'])
    new MutationObserver(() => window.seen[name].push(performance.now()))
      .observe(document.getElementById(name), {childList: true, subtree: true, characterData: true});
}
"""
_EXPLAINED = """
() => {
  const why = window.seen.why.at(-1), asked = window.seen.columns.filter((at) => at < why - 5);
  window.seen.columns.length = window.seen.why.length = 0;
  return (why - asked.at(-1)) / 1000;
}
"""


def ask(page: Page, word: str) -> float:
    """Ask a query; returns the seconds from the finished answer to its explanation."""
    page.locator("#query textarea").fill(word)
    page.locator("#ask").click()
    page.locator("#columns .ck-asked", has_text=f"Q: {word}").wait_for()
    page.locator("#why .ck-why").wait_for(state="detached")  # the explanation of the query before
    page.locator("#why .ck-why").wait_for()
    return page.evaluate(_EXPLAINED)


def interactions(page: Page) -> Iterator[Callable[[int], Any]]:
    """One round: each is called with the number of the round."""

    def compare(number: int) -> float:
        open_tab(page, "Compare", "#columns .ck-col")
        return ask(page, WORDS[number % len(WORDS)])

    def explain(number: int) -> None:
        page.locator("#why [data-why-slot]").nth(number % 8).click()
        page.locator(f"#why .ck-why[data-slot='{number % 8}']").wait_for()

    def slots(number: int) -> None:
        open_tab(page, "Slots", "#slot-heatmap .heatmaplayer image")
        chosen = page.locator("#slot input[type=number]")
        chosen.fill(str(1 + number % 8))
        chosen.press("Enter")
        page.locator("#slot-card h3", has_text=f"slot {1 + number % 8}").wait_for()

    def mix(number: int) -> None:
        page.locator("#faders [data-mute]").nth(number % 8).click()
        page.locator("#effect [data-view=changed]").wait_for()

    def off(number: int) -> None:
        open_tab(page, "OFF effect", "#off-histograms .barlayer path")
        page.locator("#split label").nth(number % 2).click()
        page.locator("#off-histograms .barlayer path").first.wait_for()

    def tabs(number: int) -> None:
        open_tab(page, "Training", "#training-curves .scatterlayer .trace")
        open_tab(page, "Gate", "#gate-table tr[data-name]")

    yield from (compare, explain, slots, mix, off, tabs)


def memory(session: CDPSession, server: psutil.Process, browser: psutil.Process) -> dict[str, float]:
    """Megabytes of the page's objects, of its process and of the server; how many nodes and listeners the page has."""
    session.send("HeapProfiler.collectGarbage")
    counted = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
    pages = [child for child in browser.children(recursive=True) if "--type=renderer" in child.cmdline()]
    return {
        "heap_mb": counted["JSHeapUsedSize"] / 1e6,
        "page_mb": max(child.memory_info().rss for child in pages) / 1e6,
        "server_mb": server.memory_info().rss / 1e6,
        "nodes": counted["Nodes"],
        "listeners": counted["JSEventListeners"],
    }


def growth(rows: list[dict[str, float]], name: str) -> float:
    """The median of the last quarter over that of the second."""
    quarter = max(1, len(rows) // 4)
    second, last = rows[quarter : 2 * quarter] or rows[:1], rows[-quarter:]
    return statistics.median(row[name] for row in last) / statistics.median(row[name] for row in second)


def use(page: Page, address: str, count: int, idle_minutes: float, processes: tuple) -> dict[str, Any]:
    """Use the page and then leave it alone."""
    started = time.perf_counter()
    page.goto(address)
    page.locator("#headline .ck-verdict").first.wait_for()
    first_page = time.perf_counter() - started
    page.locator("#top .ck-dot.ready").wait_for()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.evaluate(_WATCH)
    rows, explained, done = [], [], 0
    while done < count:
        for act in interactions(page):
            result = act(len(rows))
            explained += [result] if isinstance(result, float) else []
            done += 1
        rows.append(memory(session, *processes))
        print(f"{done:4d} interactions", *(f"{name} {value:.0f}" for name, value in rows[-1].items()), flush=True)
    time.sleep(60 * idle_minutes)
    return {
        "first_page_s": first_page, "why_s": explained, "rounds": rows, "idle_minutes": idle_minutes,
        "after_idle": memory(session, *processes),
        "growth": {name: growth(rows, name) for name in ("heap_mb", "page_mb", "server_mb", "nodes", "listeners")},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=200, help="how many, rounded up to whole rounds")
    parser.add_argument("--idle-minutes", type=float, default=60, help="how long the page is left alone afterwards")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_app(Path(scratch)) as address,
        sync_playwright() as playwright,
    ):
        ours = psutil.Process().children()
        server = next(child for child in ours if any(part.endswith("app.py") for part in child.cmdline()))
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGS)
        processes = server, psutil.Process()
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(600_000)
        found = use(page, address, asked.interactions, asked.idle_minutes, processes)
        chromium.close()
    warm = statistics.median(found["why_s"][1:] or found["why_s"])
    print(f"first page {found['first_page_s']:.1f} s, an answer explained in {warm:.2f} s (median, warm)")
    print("growth from the second to the last quarter:", *(f"{k} x{v:.2f}" for k, v in found["growth"].items()))
    print("flat" if all(value <= FLAT for value in found["growth"].values()) else "not flat")
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
