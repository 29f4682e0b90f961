"""The page can be read and used by everybody: contrast, names, headings, keyboard, a phone."""

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from components.tabs import TABS  # noqa: E402
from tests.app.conftest import open_page  # noqa: E402

expect.set_options(timeout=150_000)
pytestmark = pytest.mark.timeout(900)

# All text that is seen and can be used, with less contrast to what is behind it than WCAG 2.2 asks of its size (1.4.3).
TOO_PALE = """
() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3]));
  const ancestors = (element) => element ? [element, ...ancestors(element.parentElement)] : [];
  const behind = (element) => ancestors(element).reverse()
    .reduce((paper, e) => over(rgba(getComputedStyle(e).backgroundColor), paper), [255, 255, 255]);
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
    const ink = rgba(element.closest('svg') ? style.fill : style.color);
    ink[3] *= ancestors(element).reduce((share, e) => share * Number(getComputedStyle(e).opacity), 1);
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
def test_every_word_has_contrast_enough_in_every_tab(browser, server, scheme):
    for page in open_page(browser, f"{server}/?__theme={scheme}", color_scheme=scheme):
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


def test_everything_that_can_be_typed_into_has_a_name_and_headings_form_an_outline(page):
    page.get_by_role("button", name=re.compile("paste demonstrations")).click()
    expect(page.get_by_role("textbox", name="pasted demonstrations")).to_be_visible()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, textarea, select')].filter((box) => box.checkVisibility()
            && !box.labels?.length && !box.ariaLabel && !box.getAttribute('aria-labelledby') && !box.title
            && box.type !== 'file').map((box) => box.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    levels = page.evaluate(
        """() => [...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.checkVisibility())
            .map((h) => Number(h.tagName[1]))"""
    )
    assert levels.count(1) == 1 and 2 in levels
    assert all(b - a <= 1 for a, b in zip([0, *levels], levels, strict=False))


def test_a_phone_has_the_form_in_a_drawer_and_reaches_every_tab(browser, server):
    for page in open_page(browser, server, viewport={"width": 390, "height": 844}):
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
