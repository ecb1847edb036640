"""Pages of the audit in Chromium, which is found on the PATH or named by RVPO_CHROMIUM.

A module with a fixture ``reports`` (reports by name) visits their pages; without a Chromium its
tests are skipped.
"""

import contextlib
import os
import shutil

import pytest

from rvpo_jax.auditing.page.page import render_page

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
# Runs before the page: what the policy stops is kept, wherever it comes from.
WATCH = """
window.__violations = [];
addEventListener("securitypolicyviolation", (e) => window.__violations.push(e.violatedDirective));
"""
OPEN = (
    "document.querySelectorAll('details.section, details.card').forEach((e) => { e.open = true; })"
)


@pytest.fixture(scope="module")
def browser():
    """A Chromium without a window. Its event loop would be in the way of other modules' own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'rvpo-jax[test]'")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("RVPO_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on the PATH; name one with RVPO_CHROMIUM")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield running
        running.close()


class Visit:
    """A page of a report opened from disk, and everything it did that it should not.

    Sections are closed at first; most tests look into all of them.
    """

    def __init__(self, browser, path, *, opened=True, **options):
        self.context = browser.new_context(**options)
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.console, self.dialogs, self.requests = [], [], []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        if opened:
            self.page.evaluate(OPEN)

    def _dismiss(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()


@pytest.fixture(scope="module")
def paths(reports, tmp_path_factory):
    """The pages of the module's reports, written to disk."""
    folder = tmp_path_factory.mktemp("pages")
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(render_page(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def open_page(browser, paths):
    """Visits the page of a report, or a file; a context manager."""

    @contextlib.contextmanager
    def opening(name, **options):
        opened = Visit(browser, paths.get(name, name), **options)
        yield opened
        opened.context.close()

    return opening


@pytest.fixture
def visit(open_page):
    """Visits that end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name, **options: stack.enter_context(open_page(name, **options))
