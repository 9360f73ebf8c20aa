"""Every other view of the live page beside the library: regimes, rivals, balance, rank, a store."""

import contextlib
import io
import itertools
import warnings
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from browser import chromium, page
from scipy import stats

import saddlescope as sc
from saddlescope.engines import make_engine
from saddlescope.engines.native import Native
from saddlescope.runfile import run_from_toml
from saddlescope.theory import ModeSDE, phases

__all__ = ["chromium", "page"]

VIEWS = ("saddle", "mode", "regimes", "wrong", "balance", "rank", "run")


def test_regimes_and_their_temperatures(page):
    rng = np.random.default_rng(3)
    for _ in range(15):
        s, sigma, T = round(rng.uniform(0.2, 4), 2), float(f"{np.exp(rng.uniform(-2, 2.5)):.3g}"), rng.uniform(0.01, 2)
        T, B = float(f"{T:.3g}"), int(rng.choice([1, 2, 16]))
        page.open("regimes", s=s, sigma=sigma, T=T, B=B)
        mode, shown = ModeSDE(2, s, sigma, temperature=T), page.numbers
        assert shown["regime"] == phases.regime(mode)
        for key, value in phases.regime_temperatures(mode).items():
            np.testing.assert_allclose(page.number(key), value, rtol=1e-12)
        found = phases.extrema(mode)
        for key, values in (("maximum", found.maxima), ("minimum", found.minima)):
            np.testing.assert_allclose(page.number(key), values[0] if len(values) else np.nan, rtol=1e-12)
        np.testing.assert_allclose(page.number("exponent"), phases.exponent_at_zero(mode), rtol=1e-12, atol=1e-12)
        rate = phases.collapse_rate(T * B, B, s, sigma)
        np.testing.assert_allclose(page.number("sgd_rate"), rate, rtol=1e-6, atol=1e-6)


def test_distances_of_theories_to_the_sample(page):
    for L, s, sigma, T in ((2, 1.0, 0.5, 0.3), (3, 1.5, 0.55, 0.1), (1, 1.0, 0.5, 0.2)):
        page.open("wrong", L=L, s=s, sigma=sigma, T=T, n=4096)
        sample, mode = page.table()["strength"], ModeSDE(L, s, sigma, temperature=T)
        additive = ModeSDE(L, moments=(0.0, 0.0, sigma**2, 1.0, s), temperature=T)
        neighbour = ModeSDE(L + 1, s, sigma, temperature=T * L / (L + 1))
        laws = [mode.stationary(), mode.boltzmann(), additive.stationary(), neighbour.stationary()]
        places = [0, 1, 2, 4 if L > 1 else 3]
        for place, law in zip(places, laws, strict=True):
            distance = stats.kstest(sample, law.cdf).statistic
            np.testing.assert_allclose(page.number(f"distance_{place}"), distance, atol=1e-4)
        assert page.numbers["verdict_0"] == "not refuted"
        assert len(sample) == 4096
    np.testing.assert_allclose(page.number("bound"), np.sqrt(np.log(2e6) / 8192), rtol=1e-12)


def test_boltzmann_is_refuted_hot_and_not_cold(page):
    assert page.open("wrong", T=0.3).numbers["verdict_1"] == "refuted"
    assert page.open("wrong", T=0.001).numbers["verdict_1"] == "not refuted"


def network(modes, widths, sigma, scale):
    teacher = np.eye(widths[-1], widths[0]) * np.array([*modes, *[0.0] * (widths[0] - len(modes))])
    return sc.Problem(sc.DeepLinear(widths), sc.GaussianData(teacher, label_noise=sigma), sc.init.Gaussian(scale=scale))


def saves(problem, method, table, dtype, seed, observable):
    """An observable of the library at the saves of a page."""
    steps = np.unique(table["step"])
    plan = sc.Plan(steps=int(steps[-1]), trajectories=4, seed=seed, dtype=dtype)
    engine = Native(problem, method, plan, instruction_set="baseline")
    state = engine.init()
    for step in steps:
        state = engine.advance(state, int(step))
        yield engine.observe(state)[observable]


def test_imbalance_under_four_methods(page):
    settings = {"s": "2,1", "dx": 3, "h": 5, "dy": 2, "sigma": 1, "lr": 0.02, "B": 2, "mu": 0.5, "n": 4, "seed": 7}
    table = page.open("balance", **settings, a1=0.8, a2=0.4, time=4).table()
    problem = network((2, 1), (3, 5, 2), 1.0, (0.8, 0.4))
    methods = {
        "gradient flow": sc.GradientFlow(0.02),
        "SGD": sc.SGD(0.02, 2),
        "isotropic": sc.Langevin(0.02, 2, noise="isotropic"),
        "SGD with momentum": sc.SGD(0.01, 2, momentum=0.5),
    }
    for name, method in methods.items():
        dtype = "float64" if name == "gradient flow" else "float32"
        found = np.array(list(saves(problem, method, table, dtype, 7, "imbalance")))
        shown = table["imbalance"][table["method"] == name].reshape(found.shape)
        # The integrator of gradient flow chooses its steps by a power, which mathematical libraries round differently.
        rtol = 1e-9 if name == "gradient flow" else 0
        np.testing.assert_allclose(shown, found, rtol=rtol, err_msg=name)


def test_determinant_and_its_line(page):
    settings = {"s": "2,1", "dx": 3, "h": 6, "dy": 2, "sigma": 1, "lr": 0.01, "B": 4, "n": 4, "seed": 3, "scale": 0.6}
    table = page.open("rank", **settings, data="batches", time=20).table()
    problem = network((2, 1), (3, 6, 2), 1.0, 0.6)
    for name, method in {"GD": sc.GD(0.01), "SGD": sc.SGD(0.01, 4)}.items():
        found = np.array(list(saves(problem, method, table, "float32", 3, "log_det")))
        shown = table["log_det"][table["method"] == name].reshape(found.shape)
        np.testing.assert_allclose(shown, found, rtol=1e-12, atol=1e-12)
    # The line is a mean over noise: it has a sampling error under SGD, none under GD.
    assert abs(page.number("seen_0") - page.number("line_0")) < 0.01
    assert abs(page.number("seen_1") - page.number("line_1")) < 0.15
    assert page.number("seen_1") < page.number("seen_0") - 0.5


def test_determinant_of_full_batches_with_fresh_label_noise(page):
    settings = {"s": "2,1", "dx": 3, "h": 6, "dy": 2, "lr": 0.1, "samples": 299, "n": 4, "seed": 5, "scale": 0.5}
    table = page.open("rank", **settings, sigma=2, time=100).table()
    x = np.sqrt(3) * np.tile(np.eye(3), (100, 1))
    for name, noise in {"GD": 0.0, "label noise": 2.0}.items():
        data = sc.Dataset(x, x @ np.eye(2, 3).T * [2, 1], noise)
        problem = sc.Problem(sc.DeepLinear((3, 6, 2)), data, sc.init.Gaussian(scale=0.5))
        found = np.array(list(saves(problem, sc.GD(0.1), table, "float32", 5, "log_det")))
        shown = table["log_det"][table["method"] == name].reshape(found.shape)
        np.testing.assert_allclose(shown, found, rtol=1e-12, atol=1e-12, err_msg=name)
    assert "raised to 300" in page.tab.inner_text("#notes")
    np.testing.assert_allclose(page.number("slope"), -2 * 0.1 * 4 * 2 * 3 / 300, rtol=1e-12)
    # First steps are large: they lower log det by η⁴Σs⁴ more than the line of second order says.
    for k in (0, 1):
        assert -0.05 < page.number(f"seen_{k}") - page.number(f"line_{k}") < 0.05
    assert page.number("seen_1") < page.number("seen_0") - 1.5
    assert "first steps" not in page.tab.inner_text("#notes")
    assert "first steps" in page.open("rank", scale=1, time=100).tab.inner_text("#notes")


def test_a_stored_run_is_shown(page, tmp_path):
    problem = network((2, 1), (2, 3, 2), 0.5, 0.5)
    sc.simulate(problem, sc.SGD(0.01, 1), sc.Plan(steps=600, saves=6, trajectories=20), out=tmp_path / "run.zarr")
    from saddlescope.explore import page as text

    page.path = tmp_path / "page.html"
    page.path.write_text(text(tmp_path / "run.zarr"))
    table = page.open("run", variable="mode_strength").table()
    expected = sc.load(tmp_path / "run.zarr")["mode_strength"]
    mean = expected.sel(statistic="mean", mode=0).values
    mine = (table["statistic"] == "mean") & (table["mode"] == 0)
    np.testing.assert_allclose(table["mode_strength"][mine], mean, rtol=1e-6)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fits_a_phone_and_names_everything(page, view):
    page.tab.set_viewport_size({"width": 360, "height": 720})
    page.open(view)
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 360
    unnamed = page.tab.evaluate(
        """[...document.querySelectorAll("button, input, select, svg")].filter((one) => one.checkVisibility() &&
           !(one.ariaLabel || one.textContent.trim() || one.closest("label")?.textContent.trim())).length"""
    )
    assert unnamed == 0


@pytest.mark.parametrize(
    "view, settings",
    [
        ("saddle", {"n": 4, "lr": 0.02, "s": "2,1"}),
        ("mode", {"T": 0.2, "s0": 0.1}),
        ("regimes", {"T": 0.3}),
        ("wrong", {"n": 512}),
        ("balance", {"time": 3, "n": 4, "dx": 3, "dy": 2, "h": 3}),
        ("rank", {"time": 3, "n": 4}),
        ("rank", {"time": 3, "n": 4, "data": "batches"}),
    ],
)
def test_copied_code_of_every_view_runs(page, view, settings):
    page.open(view, **settings)
    code, printed = page.code, io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short horizons
        exec(compile(code["python"], view, "exec"), {"__name__": view})
    assert printed.getvalue()
    problem, method, plan = run_from_toml(code["toml"])
    make_engine("native", problem, method, plan)


@pytest.mark.parametrize(
    "view, settings, observable, count",
    [
        ("balance", {}, "imbalance", 4),
        ("rank", {"data": "batches"}, "log_det", 2),
        ("rank", {"lr": 0.05, "samples": 100}, "log_det", 2),
    ],
)
def test_copied_python_of_balance_and_rank_gives_their_numbers(page, view, settings, observable, count):
    table = page.open(view, time=3, n=4, dx=3, dy=2, h=5, **settings).table()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(page.code["python"], view, "exec"), {"__name__": view})
    found = eval(printed.getvalue().replace("array", ""), {"__builtins__": {}})
    last = table[table["step"] == table["step"].max()]
    assert len(found) == count
    for name, values in found.items():
        shown = last[observable][last["method"] == name].mean()
        np.testing.assert_allclose(values, [shown], rtol=1e-3, err_msg=name)


def test_copied_run_file_of_full_batches_takes_the_steps_of_the_page(page):
    table = page.open("rank", time=30, n=4, dx=3, samples=200, seed=2).table()
    problem, method, plan = run_from_toml(page.code["toml"])
    assert len(page.code["toml"]) < 800
    engine = Native(problem, method, plan, instruction_set="baseline")
    found = engine.observe(engine.advance(engine.init(), plan.steps))["log_det"].ravel()
    last = table[(table["step"] == plan.steps) & (table["method"] == "label noise")]
    np.testing.assert_allclose(last["log_det"], found, rtol=1e-6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(page, scheme):
    rules = Path(__file__).parents[2] / "explore" / "node_modules" / "axe-core" / "axe.min.js"
    if not rules.is_file():
        pytest.skip("the rules of axe are missing; npm ci in explore/ installs them")
    page.tab.emulate_media(color_scheme=scheme)
    for view in VIEWS:
        page.open(view)
        page.tab.evaluate(rules.read_text(encoding="utf-8"))
        found = page.tab.evaluate(
            "axe.run().then((all) => all.violations.map((one) => `${one.id}: ${one.nodes[0].html}`))"
        )
        assert found == [], view


def test_predict_first_hides_the_answer_until_it_is_revealed(page):
    page.open("mode")
    page.tab.check("#predict")
    assert not page.tab.is_visible("#figures svg")
    page.tab.click("#reveal")
    assert page.tab.is_visible("#figures svg")


LISTENING = """
window.heard = [];
window.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => window.heard.push(data.id));
  }
  postMessage(asked) { window.heard.push(-asked.id); super.postMessage(asked); }
};
"""


@pytest.mark.parametrize(
    "view, heavy, light",
    [
        ("saddle", {"h": 24, "n": 64, "lr": 1e-3, "L": 5, "s": "4,3,2,1,0.5,0.2"}, {"s": "2,1", "n": 4, "h": 2}),
        ("wrong", {"L": 4, "T": 0.3, "n": 65536}, {"n": 256}),
    ],
)
def test_a_heavy_setting_gives_way_to_the_next(page, view, heavy, light):
    page.tab.add_init_script(LISTENING)
    page.open("regimes")
    page.tab.evaluate(f"location.hash = '{urlencode({'view': view} | heavy)}'")
    page.tab.wait_for_timeout(300)
    assert page.tab.get_attribute("body", "data-done") == "false"
    page.tab.evaluate(f"location.hash = '{urlencode({'view': view} | light)}'")
    page.wait()
    heard = page.tab.evaluate("window.heard")
    next_one = -min(heard)
    late = [id for id in heard[heard.index(-next_one) :] if id == next_one - 1]
    assert len(late) <= 2, "parts of the heavy setting after the next was asked for"


def test_kernels_that_do_not_load_are_announced(page, tmp_path):
    text = page.path.read_text(encoding="utf-8")
    page.path = tmp_path / "page.html"
    page.path.write_text(text.replace('self.WASM = "', 'self.WASM = "AAAA'), encoding="utf-8")
    page.tab.goto(f"{page.path.as_uri()}#view=mode")
    page.tab.wait_for_selector("#say p")
    assert "The computation stopped" in page.tab.inner_text("#say")
    page.faults.clear()


def test_figures_are_saved_with_their_colours(page):
    page.open("regimes")
    with page.tab.expect_download() as saved:
        page.tab.click("figure .small")
    text = saved.value.path().read_text(encoding="utf-8")
    assert text.startswith("<svg") and "--c1:#0072b2" in text and saved.value.suggested_filename == "regimes-1.svg"


def test_dragging_the_point_of_a_figure_sets_its_numbers(page):
    page.open("regimes", sigma=1, T=0.1)
    box = page.tab.locator(".handle").bounding_box()
    page.tab.mouse.move(box["x"] + 9, box["y"] + 9)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + 9, box["y"] - 31, steps=4)
    page.tab.mouse.up()
    page.wait()
    assert 0.2 < float(page.tab.input_value("#number-T")) < 2
    assert abs(float(page.tab.input_value("#number-sigma")) - 1) < 0.05
    page.tab.locator(".handle").press("ArrowUp")
    page.wait()
    assert "T=" in page.tab.evaluate("location.hash")


def test_presets_differ_and_settle_without_faults(page):
    for view in VIEWS[:-1]:
        page.open(view)
        seen = []
        presets = page.tab.locator("#presets button")
        for index in range(presets.count()):
            presets.nth(index).click()
            page.wait()
            seen.append(page.tab.inner_text("#answer") + page.tab.evaluate("document.querySelector('svg').outerHTML"))
        assert len(seen) >= 4
        assert all(one != other for one, other in itertools.pairwise(seen)), view


def test_only_settings_that_matter_are_shown(page):
    page.open("rank")
    assert page.tab.is_visible("#set-samples") and not page.tab.is_visible("#set-B")
    page.tab.select_option("#set-data", "batches")
    page.wait()
    assert page.tab.is_visible("#set-B") and not page.tab.is_visible("#set-samples")
    page.open("rank", data="batches")
    assert page.tab.is_visible("#set-B") and not page.tab.is_visible("#set-samples")


HURRY = """
async () => {
  const wait = (ms) => new Promise((next) => setTimeout(next, ms));
  const presets = document.querySelectorAll("#presets button");
  for (let k = 0; k < 40; k++) {
    const slider = document.querySelectorAll("#settings input[type=range]")[k % 4];
    slider.value = String(Number(slider.min) + (0.3 + 0.01 * k) * (slider.max - slider.min));
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await wait(7 * (k % 5));
    if (k % 3 === 0) presets[k % presets.length].click();
    await wait(11 * (k % 4));
  }
}
"""


@pytest.mark.parametrize("view", VIEWS[:-1])
def test_haste_never_mixes_an_answer_with_another_setting(page, view):
    page.open(view)
    page.tab.evaluate(HURRY)
    page.tab.locator("#presets button").first.click()
    page.wait()
    seen = page.numbers
    assert page.open(view).numbers.keys() <= seen.keys()
    page.tab.locator("#presets button").first.click()
    page.wait()
    assert page.numbers == seen


def test_the_time_shown_moves_without_a_new_run(page):
    page.tab.add_init_script(LISTENING)
    page.open("saddle")
    before = len(page.tab.evaluate("window.heard"))
    page.tab.focus("#set-at")
    page.tab.keyboard.press("ArrowRight")
    page.wait()
    assert page.tab.evaluate("saddlescope.state.at") == 31
    assert len(page.tab.evaluate("window.heard")) == before


def finger(page, selector, across, down):
    """Touch the centre of an element and drag it by ``across`` and ``down`` pixels."""
    box = page.tab.locator(selector).last.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.tab.context.new_cdp_session(page.tab)

    def touch(kind, *points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]})

    touch("touchStart", (x, y))
    for k in range(1, 9):
        touch("touchMove", (x + across * k / 8, y + down * k / 8))
    touch("touchEnd")


def test_a_finger_drags_a_handle_up_and_down(page):
    page.tab.context.new_cdp_session(page.tab).send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.tab.set_viewport_size({"width": 390, "height": 844})
    page.open("mode")
    page.tab.locator("#figures svg").first.scroll_into_view_if_needed()
    before = page.tab.evaluate("scrollY")
    box = page.tab.locator("#figures svg").first.get_attribute("data-box")
    top, bottom = map(float, box.split(",")[2:])
    finger(page, 'circle[data-key="s"]', -2, -40)
    page.wait()
    # The vertical axis ends at 1.6 s* and does not change while the handle is held.
    np.testing.assert_allclose(page.tab.evaluate("saddlescope.state.s"), 1 + 40 * 1.6 / (bottom - top), rtol=0.03)
    assert page.tab.evaluate("scrollY") == before


def test_a_level_drag_leaves_the_other_setting_alone(page):
    page.open("regimes", sigma=1, T=0.1)
    box = page.tab.locator(".handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    for k in range(1, 30):
        page.tab.mouse.move(x + 12 * k, y)
        page.tab.wait_for_timeout(20)
    page.tab.mouse.up()
    page.wait()
    assert page.tab.evaluate("saddlescope.state.sigma") > 5
    np.testing.assert_allclose(page.tab.evaluate("saddlescope.state.T"), 0.1, rtol=0.03)


def test_settings_are_there_after_a_phone_is_turned(page):
    page.tab.set_viewport_size({"width": 390, "height": 844})
    page.open("regimes")
    assert not page.tab.is_visible("#set-T")
    page.tab.set_viewport_size({"width": 844, "height": 390})
    page.tab.wait_for_selector("#set-T", state="visible")


def test_the_way_back_leads_to_the_last_view(page):
    page.open("mode", L=3)
    page.tab.click("#tab-regimes")
    page.wait()
    page.tab.go_back()
    page.tab.wait_for_selector('#tab-mode[aria-selected="true"]')
    page.wait()
    assert page.tab.evaluate("saddlescope.state.L") == 3


def test_linear_regression_with_an_infinite_variance_is_drawn(page):
    page.open("mode", L=1, sigma=2, T=2, s0=1e-3)
    assert "NaN" not in page.tab.evaluate("document.getElementById('figures').innerHTML")
