"""The page can be read and used by everybody: contrast, dark mode, a phone."""

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from components.tabs import TABS  # noqa: E402
from tests.app.use import open_tab  # noqa: E402

expect.set_options(timeout=150_000)
pytestmark = pytest.mark.timeout(900)

PHONE = {"width": 390, "height": 844}
# All text that is seen and can be used, with less contrast to what is behind it than WCAG 2.2 asks of its size (1.4.3).
TOO_PALE = """
() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const once = (work) => {
    const known = new Map();
    return (of) => (known.has(of) || known.set(of, work(of)), known.get(of));
  };
  const rgba = once((color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  });
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3]));
  const behind = once((element) => element
    ? over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : [255, 255, 255]);
  const opacity = once((element) => element
    ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1);
  const light = (color) => {
    const [r, g, b] = color.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const seen = (element) => element.checkVisibility({opacityProperty: true, visibilityProperty: true})
    && element.getBoundingClientRect().width > 1 && element.getBoundingClientRect().height > 1
    && !element.closest('[aria-hidden=true]');
  const found = new Map();
  const check = (element, text, pseudo) => {
    const style = getComputedStyle(element, pseudo), paper = behind(element);
    const ink = [...rgba(element.closest('svg') ? style.fill : style.color)];
    ink[3] *= opacity(element);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const least = size >= 24 || (size >= 18.66 && bold) ? 3 : 4.5, is = ratio(over(ink, paper), paper);
    if (is < least) found.set(`${text.trim().slice(0, 40)} <${element.tagName} ${element.className.baseVal ??
      element.className}> ${is.toFixed(2)}`, is);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent, element = walker.currentNode.parentElement;
    if (/[\\p{L}\\p{N}]/u.test(text) && !/^(SCRIPT|STYLE|NOSCRIPT|TITLE)$/.test(element.tagName)
      && !element.closest(':disabled, [aria-disabled=true]') && seen(element)) check(element, text);
  }
  for (const box of document.querySelectorAll('input, textarea'))
    if (seen(box) && !box.disabled) {
      if (box.value && !/^(checkbox|radio|range)$/.test(box.type)) check(box, box.value);
      else if (box.placeholder) check(box, box.placeholder, '::placeholder');
    }
  return [...found.keys()];
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_has_contrast_enough_in_every_tab(opened, scheme):
    page = opened.page(f"?__theme={scheme}", color_scheme=scheme)
    for fold in ("how many slots", "look at them one by one", "paste demonstrations", "queries and template"):
        page.get_by_role("button", name=re.compile(fold)).click()
    page.get_by_role("button", name="advanced settings").click()
    page.locator("#find-setting textarea, #find-setting input").fill("steps")
    expect(page.get_by_label("tick every").first).to_be_visible()
    pale = set()
    for tab in TABS:
        page.get_by_role("tab", name=tab.name).click()
        expect(page.get_by_role("tab", name=tab.name)).to_have_attribute("aria-selected", "true")
        pale |= set(page.evaluate(TOO_PALE))
    assert sorted(pale) == []


def test_dark_mode_turns_page_and_text_and_plots_stay_readable(opened):
    page = opened.page("?__theme=dark", color_scheme="dark")
    assert brightness(shade(page.locator("body"))) < 120
    open_tab(page, "OFF effect")
    title = page.locator("#off-histograms .infolayer text", has_text="Delta, nats").first
    expect(title).to_have_text("Delta, nats")
    assert brightness(title.evaluate("e => getComputedStyle(e).fill")) > 330
    paper = page.locator("#off-histograms .main-svg").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert paper.endswith(", 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scrolling(opened, scheme):
    page = opened.page(f"?__theme={scheme}", viewport=PHONE, color_scheme=scheme)
    expect(page.locator("#headline .what")).to_contain_text("example")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink, paper = (
        page.locator("#headline .what").evaluate("e => getComputedStyle(e).color"),
        shade(page.locator("body")),
    )
    assert brightness(ink) < brightness(paper) if scheme == "light" else brightness(ink) > brightness(paper)


def test_a_phone_has_the_form_in_a_drawer_and_reaches_every_tab(opened):
    page = opened.page("?__theme=light", viewport=PHONE, color_scheme="light")
    run = page.locator("#run")
    expect(run).not_to_be_in_viewport()
    page.get_by_role("link", name="Set up a run").click()
    expect(run).to_be_in_viewport()
    page.get_by_role("link", name="close").click()
    expect(run).not_to_be_in_viewport()
    for tab in TABS:
        page.get_by_role("tab", name=tab.name).locator("visible=true").first.click()
        panel = page.get_by_role("tabpanel").locator("visible=true")
        expect(panel.first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def brightness(color: str) -> float:
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3])


def shade(locator) -> str:
    return locator.evaluate("e => getComputedStyle(e).backgroundColor")
