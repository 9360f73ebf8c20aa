"""The live page in two browsers: opened with settings in the address, its numbers read back at full precision."""

import contextlib
import importlib.resources
import io
import shutil
from urllib.parse import urlencode

import bidi
import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DONE = 'body[data-done="true"][data-rest="true"]'


def built():
    """Path of the built page; skips in words where it is missing."""
    path = importlib.resources.files("saddlescope.explore") / "explore.html"
    if not path.is_file():
        pytest.skip("the live page is not built; make page builds it")
    return path


def leaves(url):
    """Whether a request for this address leaves the page."""
    return not url.startswith(("file:", "blob:", "data:", "about:"))


def watched(context):
    """A tab of Chromium, and a list of what it must not do: errors, and requests that leave the page."""
    tab, faults = context.new_page(), []
    tab.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda request: faults.append(f"request of {request.url}") if leaves(request.url) else None)
    return tab, faults


class Page:
    """The live page in a tab of either browser, which writes errors and requests into `faults`.

    `few` is how many settings a test tries here by default, None for all.
    """

    def __init__(self, tab, faults, few=None):
        self.tab, self.faults, self.few, self.path = tab, faults, few, built()

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
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install chromium")
    pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def firefox(tmp_path_factory):
    """Firefox, started once."""
    built()
    if bidi.FIREFOX is None:
        pytest.skip("no Firefox on this machine; install firefox-esr")
    pytest.importorskip("websockets.sync.client", reason="websockets talks to Firefox; pip install websockets")
    with bidi.started(tmp_path_factory.mktemp("profile")) as send:
        yield send


@contextlib.contextmanager
def in_chromium(browser):
    """A fresh page in Chromium."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Page(*watched(context))
    context.close()


@contextlib.contextmanager
def in_firefox(send):
    """A fresh page in Firefox."""
    faults = []
    tab = bidi.Tab(send, faults, leaves)
    yield Page(tab, faults, few=3)
    tab.close()


@pytest.fixture
def page(chromium):
    """A fresh page in Chromium; its errors and requests fail the test."""
    with in_chromium(chromium) as opened:
        yield opened
    assert opened.faults == []


@pytest.fixture(params=["chromium", "firefox"])
def either(request):
    """A fresh page in each browser; its errors and requests fail the test."""
    opening = {"chromium": in_chromium, "firefox": in_firefox}[request.param]
    with opening(request.getfixturevalue(request.param)) as opened:
        yield opened
    assert opened.faults == []
