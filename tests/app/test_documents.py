"""The Documents tab in a browser: every view's answer, and a page that goes on while other text is read."""

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

expect.set_options(timeout=150_000)
pytestmark = pytest.mark.timeout(600)


def test_a_document_is_answered_and_what_is_asked_meanwhile_is_not_lost(page):
    page.get_by_role("tab", name="Documents").click()
    page.locator("#ask-document").click()
    answers = page.locator("#document-answers")
    expect(answers.locator("th:text-is('gists') + td")).to_contain_text("48291")
    expect(page.locator("#document-off")).to_contain_text(re.compile("behind these prefixes: [1-6] of 7"))
    page.locator("#asked textarea").fill("")
    page.locator("#ask-document").click()
    expect(page.locator(".toast-body")).to_contain_text("the question is empty")
    expect(page.locator("#document-off")).to_have_text("")  # what was being read is read no further
    page.get_by_role("tab", name="Compare").click()
    page.locator("#ask").click()
    expect(page.locator("#columns .ck-col")).to_have_count(3)
