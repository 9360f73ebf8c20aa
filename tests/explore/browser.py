"""The live page in Chromium: opened with settings in the address, its numbers read back at full precision."""

import importlib.resources
import io
import shutil
from urllib.parse import urlencode

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DONE = 'body[data-done="true"][data-rest="true"]'


def built():
    """Path of the built page; skips in words where it or the browser is missing."""
    path = importlib.resources.files("saddlescope.explore") / "explore.html"
    if not path.is_file():
        pytest.skip("the live page is not built; make page builds it")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install chromium")
    pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; pip install playwright")
    return path


class Page:
    """A tab that remembers what it must not do: errors, and requests that leave the page."""

    def __init__(self, context, path):
        self.tab, self.path, self.faults = context.new_page(), path, []
        self.tab.on(
            "console", lambda line: self.faults.append(line.text) if line.type in ("error", "warning") else None
        )
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on("request", self._requested)

    def _requested(self, request):
        if not request.url.startswith(("file:", "blob:", "data:")):
            self.faults.append(f"request of {request.url}")

    def open(self, view, **settings):
        """Show a view with these settings, computed to the end."""
        self.tab.goto("about:blank")
        self.tab.goto(f"{self.path.as_uri()}#{urlencode({'view': view} | settings)}")
        self.wait()
        return self

    def wait(self):
        """Until everything is computed and the address says so."""
        self.tab.wait_for_selector(DONE, timeout=60_000)

    @property
    def numbers(self):
        """The numbers beside the figures; None where there is none."""
        return self.tab.evaluate(
            "Object.fromEntries(Object.entries(saddlescope.numbers()).map(([k, v]) => [k, String(v)]))"
        )

    def number(self, key):
        return float(self.numbers[key].replace("Infinity", "inf").replace("null", "nan"))

    @property
    def code(self):
        return self.tab.evaluate("saddlescope.code()")

    def table(self):
        """The CSV of the view as a structured array."""
        text = self.tab.evaluate("saddlescope.csv()")
        return np.genfromtxt(io.StringIO(text), delimiter=",", names=True, dtype=None, encoding="utf-8")


@pytest.fixture(scope="module")
def chromium():
    """The browser of a module; its event loop must not outlive it, as other tests run loops too."""
    built()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh page; its errors and requests fail the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = Page(context, built())
    yield opened
    context.close()
    assert opened.faults == []
