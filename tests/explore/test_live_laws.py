"""The law in time of the live page beside that of the library, and what the page says where it has none."""

import re

import numpy as np
import pytest
from browser import chromium, page

from saddlescope.theory import ModeSDE

__all__ = ["chromium", "page"]

LEVELS = {"law_q05": 0.05, "law_q50": 0.5, "law_q95": 0.95}
UNSEEN = "The law in time cannot be computed here"


def settings(seed, count, deepest, least):
    """Random settings, with depths up to ``deepest`` and starts from ``least`` on."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        depth = int(rng.integers(1, deepest + 1))
        yield {
            "L": depth,
            "s": round(float(rng.uniform(0.2, 4)), 2),
            "sigma": round(float(np.exp(rng.uniform(np.log(0.05), np.log(4)))), 2),
            "T": float(f"{np.exp(rng.uniform(np.log(1e-3), np.log(0.9 if depth == 1 else 2))):.3g}"),
            "s0": float(f"{np.exp(rng.uniform(np.log(least), np.log(0.5))):.3g}"),
        }


def differences(page, setting):
    """Of the law of the page from that of the library at three quantiles; None where one of them has none."""
    page.open("mode", **setting)
    quantiles = np.array([page.number(key) for key in LEVELS])
    assert np.isnan(quantiles).any() == (UNSEEN in page.tab.inner_text("#notes")), setting
    end = float(re.search(r"linspace\(0, ([\d.e-]+), 121\)", page.code["python"])[1])
    mode = ModeSDE(setting["L"], setting["s"], setting["sigma"], temperature=setting["T"])
    if np.isnan(quantiles).any():
        return None
    try:
        (law,) = mode.evolve(setting["s0"], [end], tol=1e-4)
    except ValueError:
        return None
    return law.cdf(quantiles) - list(LEVELS.values())


def compare(page, chosen, most_unseen):
    """The page agrees to 2e-3 where both have an answer, which is nearly everywhere."""
    unseen = 0
    for setting in chosen:
        differ = differences(page, setting)
        unseen += differ is None
        if differ is not None:
            np.testing.assert_allclose(differ, 0, atol=2e-3, err_msg=str(setting))
    assert unseen <= most_unseen


def test_quantiles_of_the_law_at_the_last_time(page):
    compare(page, settings(seed=1, count=12, deepest=4, least=1e-3), most_unseen=2)


@pytest.mark.soak
def test_sixty_random_laws(page):
    compare(page, settings(seed=2, count=60, deepest=6, least=1e-6), most_unseen=18)


def test_the_law_is_a_picture_in_the_figure_and_in_its_file(page):
    page.open("mode")
    assert page.tab.locator("#figures svg mask image").count() == 1
    with page.tab.expect_download() as saved:
        page.tab.click("figure .small")
    assert "data:image/png;base64," in saved.value.path().read_text(encoding="utf-8")


def test_what_the_page_cannot_resolve_is_said_and_shown_by_bands(page):
    page.open("mode", L=5, s=3.28, sigma=0.22, T=0.0623, s0=1.31e-5)
    assert UNSEEN in page.tab.inner_text("#notes")
    assert page.tab.locator("#figures svg mask").count() == 0
    assert "90 % and 50 % of paths" in page.tab.inner_text("#figures")


def test_a_moving_slider_shows_bands_and_rest_the_law(page):
    page.open("mode")
    page.tab.evaluate(
        "const slider = document.querySelector('#set-T'); slider.value = 400; slider.dispatchEvent(new Event('input'))"
    )
    page.tab.wait_for_selector("#figures svg:not(:has(mask))")
    page.wait()
    assert page.tab.locator("#figures svg mask").count() == 1
