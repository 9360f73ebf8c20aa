"""How fast the live page answers: ``python benchmarks/live_page.py [views …]`` after ``make page``, in Chromium.

For every view and preset each of the first sliders is moved: the time from the move to the first painted change, the
time until everything is computed, and painted changes a second while one slider moves in every frame. Then heavy
settings are replaced by light ones while they are computed: the time until the first part of the light one has come.
Times are those of the browser, milliseconds.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PAGE = Path(__file__).parents[1] / "src" / "saddlescope" / "explore" / "explore.html"
VIEWS = ("saddle", "mode", "regimes", "wrong", "balance", "rank")
SLIDERS = 3

TOOLS = """
window.painted = () => new Promise((done) => {
  const watch = new MutationObserver(() => {
    watch.disconnect();  // pictures change in animation frames; the next task comes after they are painted
    setTimeout(() => done(performance.now()), 0);
  });
  watch.observe(document.getElementById("answer"), { childList: true, subtree: true, attributes: true });
  setTimeout(() => { watch.disconnect(); done(NaN); }, 5000);
});
window.move = (slider, share) => {
  const [low, high] = [Number(slider.min), Number(slider.max)];
  slider.value = String(low + share * (high - low));
  slider.dispatchEvent(new Event("input", { bubbles: true }));
};
window.answer = async (place, share) => {
  const slider = document.querySelectorAll("#settings input[type=range]")[place];
  const began = performance.now(), seen = window.painted();
  window.move(slider, share);
  return (await seen) - began;
};
window.settle = async (place, share) => {
  const slider = document.querySelectorAll("#settings input[type=range]")[place];
  const began = performance.now();
  window.move(slider, share);
  const complete = () => saddlescope.done && saddlescope.full;
  while (!complete()) await new Promise((next) => setTimeout(next, 5));
  return performance.now() - began;
};
window.drag = async (place) => {
  const slider = document.querySelectorAll("#settings input[type=range]")[place];
  let count = 0, changed = false;
  const watch = new MutationObserver(() => { changed = true; });
  watch.observe(document.getElementById("answer"), { childList: true, subtree: true, attributes: true });
  const began = performance.now();
  while (performance.now() - began < 1000) {
    window.move(slider, 0.3 + 0.4 * (performance.now() - began) / 1000);
    await new Promise((next) => requestAnimationFrame(next));
    if (changed) count += 1;
    changed = false;
  }
  watch.disconnect();
  return count;
};
"""

LISTENING = """
window.heard = [];
window.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => window.heard.push([data.id, performance.now()]));
  }
  postMessage(asked) { window.heard.push([-asked.id, performance.now()]); super.postMessage(asked); }
};
"""

HEAVY = {
    "saddle": "h=24&n=64&lr=1e-3&L=5&s=4,3,2,1,0.5,0.2",
    "mode": "L=8&T=0.2&s0=0.1",
    "wrong": "L=4&T=0.3&n=65536",
}
"""By view a setting that takes long; its first slider is the depth."""


def view(page: Page, name: str) -> None:
    """Print the times of a view."""
    page.goto(f"{PAGE.as_uri()}#view={name}")
    page.reload()
    page.wait_for_selector("#answer svg path", state="attached")
    drawn = page.evaluate("performance.now()")
    page.evaluate(f"{TOOLS};0")
    page.wait_for_timeout(1500)
    times, settled, frames = [], [], []
    presets = page.locator("#presets button")
    for preset in range(presets.count()):
        presets.nth(preset).click()
        page.wait_for_timeout(1200)
        sliders = page.locator("#settings input[type=range]").count()
        for place in range(min(SLIDERS, sliders)):
            presets.nth(preset).click()
            page.wait_for_timeout(1200)
            for share in (0.35, 0.5, 0.65):
                times.append(page.evaluate("([place, share]) => window.answer(place, share)", [place, share]))
                page.wait_for_timeout(600)
            settled.append(page.evaluate("(place) => window.settle(place, 0.4)", place))
            page.wait_for_timeout(300)
        presets.nth(preset).click()
        page.wait_for_timeout(1200)
        frames.append(page.evaluate("(place) => window.drag(place)", min(1, sliders - 1)))
        page.wait_for_timeout(600)
    times = sorted(time for time in times if time == time)
    middle, late = statistics.median(times), times[int(0.95 * (len(times) - 1))]
    rates = f"{statistics.median(frames):.0f} [{min(frames)}, {max(frames)}]"
    painted = f"{middle:.0f} | {late:.0f} | {statistics.median(settled):.0f}"
    print(f"| {name} | {drawn:.0f} | {painted} | {rates} | {len(times)} |", flush=True)


def address(name: str, wait: int) -> str:
    """A heavy setting, another one for every wait."""
    return f"view={name}&{HEAVY[name]}&seed={wait % 99}"


def given_up(page: Page, name: str) -> None:
    """Print how soon a heavy setting gives way when its depth is moved to the lowest."""
    times = []
    for wait in range(100, 400, 25):
        page.wait_for_selector('body[data-done="true"][data-rest="true"]')
        page.evaluate("(hash) => { window.heard.length = 0; location.hash = hash; }", address(name, wait))
        page.wait_for_timeout(wait)
        page.evaluate("window.move(document.querySelector('#settings input[type=range]'), 0)")
        page.wait_for_selector('body[data-done="true"][data-rest="true"]')
        heard = page.evaluate("window.heard")
        first = -max(number for number, _ in heard if number < 0)
        asked, answered = (next(when for number, when in heard if number == one) for one in (-first - 1, first + 1))
        times.append(answered - asked)
    print(f"{name}: a heavy setting gives way in {statistics.median(times):.0f} ms, at most {max(times):.0f}")


def main() -> None:
    views = sys.argv[1:] or VIEWS
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    print("| view | drawn | slider to painted, median | 95 % | complete | frames a second | moves |")
    print("|---|---|---|---|---|---|---|")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name in views:
            view(page, name)
        page.add_init_script(LISTENING)
        page.goto("about:blank")
        page.goto(PAGE.as_uri())
        page.evaluate(f"{TOOLS};0")
        for name in views:
            if name in HEAVY:
                given_up(page, name)
        browser.close()


if __name__ == "__main__":
    main()
