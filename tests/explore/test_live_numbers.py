"""The numbers of the live page beside those of the library: networks to the last bit, closed forms, moments."""

import contextlib
import io
import itertools
import json
import tomllib

import numpy as np
import pytest
from browser import chromium, either, firefox, page

import saddlescope as sc
from saddlescope.engines.native import Native
from saddlescope.runfile import run_from_toml
from saddlescope.theory import ModeSDE, flow_time, half_times, plateau_time

__all__ = ["chromium", "either", "firefox", "page"]

METHODS = {
    "GD": lambda lr, B: sc.GD(lr),
    "SGD": lambda lr, B: sc.SGD(lr, B),
    "Langevin": lambda lr, B: sc.Langevin(lr, B),
    "isotropic": lambda lr, B: sc.Langevin(lr, B, noise="isotropic"),
}


def network_settings(seed, count):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        modes, depth = int(rng.integers(1, 5)), int(rng.integers(2, 5))
        strengths = np.sort(rng.uniform(0.5, 4, modes).round(2))[::-1]
        yield {
            "s": ",".join(map(str, strengths)),
            "L": depth,
            "h": int(rng.integers(1, 13)),
            "sigma": float(rng.choice([0, 0.5, 1.5])),
            "lr": float(rng.choice([0.002, 0.01, 0.03])),
            "B": int(rng.choice([1, 2, 8])),
            "s0": float(rng.choice([1e-3, 1e-2])),
            "start": str(rng.choice(["balanced", "gaussian"])),
            "n": int(rng.choice([4, 12])),
            "seed": int(rng.integers(100)),
        }


def mode_settings(seed, count):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        depth = int(rng.integers(1, 9))
        yield {
            "L": depth,
            "s": round(float(rng.uniform(0.2, 4)), 2),
            "sigma": round(float(rng.uniform(0.05, 4)), 2),
            "T": float(f"{np.exp(rng.uniform(np.log(1e-3), np.log(0.9 if depth == 1 else 2))):.3g}"),
            "s0": float(f"{np.exp(rng.uniform(np.log(1e-4), np.log(0.1))):.3g}"),
            "seed": int(rng.integers(100)),
        }


def same_bits(page, setting):
    """Whether every strength of a page is that of the library, bit for bit."""
    table, strengths = page.open("saddle", **setting).table(), [float(s) for s in setting["s"].split(",")]
    size, n = len(strengths), setting["n"]
    start = sc.init.Balanced if setting["start"] == "balanced" else sc.init.Gaussian
    problem = sc.Problem(
        sc.DeepLinear((size, *[setting["h"]] * (setting["L"] - 1), size)),
        sc.GaussianData(np.diag(strengths), label_noise=setting["sigma"]),
        start(scale=setting["s0"] ** (1 / setting["L"])),
    )
    steps = np.unique(table["step"])
    for name, method in METHODS.items():
        plan = sc.Plan(steps=int(steps[-1]), trajectories=n, seed=setting["seed"], dtype="float32")
        engine = Native(problem, method(setting["lr"], setting["B"]), plan, instruction_set="baseline")
        state, shown = engine.init(), table["mode_strength"][table["method"] == name].reshape(len(steps), n, size)
        for step, values in zip(steps, shown, strict=True):
            state = engine.advance(state, int(step))
            np.testing.assert_array_equal(values, engine.observe(state)["mode_strength"], f"{name}, {setting}")


def same_closed_forms(page, setting):
    page.open("mode", **setting)
    mode = ModeSDE(setting["L"], setting["s"], setting["sigma"], temperature=setting["T"])
    s0, target, depth = setting["s0"], setting["s"], setting["L"]
    expected = {"critical": mode.critical_temperature, "boltzmann": mode.boltzmann().std()}
    expected["half"] = float(flow_time(target / 2, s0, target, depth))
    if depth > 1:
        expected["plateau"] = float(plateau_time(s0, target, depth))
    peak = mode.noise_peak()
    expected["peak"] = np.nan if peak is None else peak
    for key, value in expected.items():
        np.testing.assert_allclose(page.number(key), value, rtol=1e-12, err_msg=f"{key}, {setting}")
    law = mode.stationary()
    np.testing.assert_allclose(page.number("mean"), law.mean(), rtol=1e-5, atol=1e-9, err_msg=str(setting))
    np.testing.assert_allclose(page.number("sd"), law.std(), rtol=1e-5, atol=1e-9, err_msg=str(setting))


def printed(code):
    """What the Python of a page prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "copied", "exec"), {"__name__": "copied"})
    return printed.getvalue()


def test_network_strengths_to_the_last_bit(either):
    for setting in itertools.islice(network_settings(seed=1, count=8), either.few):
        same_bits(either, setting)


def test_closed_forms_and_moments_of_a_mode(either):
    for setting in itertools.islice(mode_settings(seed=2, count=12), either.few):
        same_closed_forms(either, setting)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_random_settings(either, seed):
    for setting in network_settings(seed=100 + seed, count=8):
        same_bits(either, setting)
    for setting in mode_settings(seed=200 + seed, count=12):
        same_closed_forms(either, setting)


def test_half_times_of_a_network(either):
    either.open("saddle", s="4,2,1", sigma=1, lr=0.01, B=2, s0=1e-3)
    for mode, time in enumerate(half_times([4, 2, 1], 1e-3, 0.005, 1.0, lr=0.01)):
        np.testing.assert_allclose(either.number(f"half_sgd_{mode}"), time, rtol=1e-12)


def test_copied_python_gives_the_numbers_of_the_page(either):
    either.open("mode", L=3, s=1.5, sigma=0.5, T=0.2, s0=0.05, seed=3)
    keys = ("peak", "mean", "sd", "run_mean", "run_sd", "law_q05", "law_q50", "law_q95")
    shown = [either.number(key) for key in keys]
    found = [float(value) for value in printed(either.code["python"]).replace("None", "nan").split()]
    np.testing.assert_allclose(found[:3], shown[:3], rtol=1e-6)
    # Paths of deep modes differ one by one between instruction sets, so that means agree within sampling errors only.
    np.testing.assert_allclose(found[3:5], shown[3:5], rtol=0.05)
    np.testing.assert_allclose(found[5:], shown[5:], rtol=5e-3)


def test_copied_python_and_toml_of_networks(either):
    either.open("saddle", s="3,1", sigma=0.5, lr=0.01, s0=1e-2, n=4)
    table = either.table()
    last = table[table["step"] == table["step"].max()]
    found = eval(printed(either.code["python"]).replace("array", ""), {"__builtins__": {}})
    for name, values in found.items():
        shown = last["mode_strength"][last["method"] == name].reshape(-1, 2).mean(axis=0)
        np.testing.assert_allclose(values, shown, rtol=1e-4)
    problem, method, plan = run_from_toml(either.code["toml"])
    assert (problem.network.widths, method) == ((2, 8, 2), sc.SGD(0.01, 1))
    assert tomllib.loads(either.code["toml"])["plan"]["steps"] == plan.steps == table["step"].max()


@pytest.mark.parametrize(
    "settings",
    [
        {"L": "abc"},
        {"T": "-3"},
        {"view": "nowhere"},
        {"view": "saddle", "s": "4,,x"},
        {"start": "random", "view": "saddle"},
    ],
    ids=json.dumps,
)
def test_bad_addresses_are_answered_in_a_sentence(page, settings):
    page.open(**({"view": "mode"} | settings))
    assert page.tab.inner_text("#say").strip().endswith(".")


def test_a_view_keeps_its_settings_while_another_is_shown(page):
    page.open("mode", L=3, T=0.2)
    page.tab.click("#tab-regimes")
    page.wait()
    page.tab.click("#tab-mode")
    page.wait()
    assert page.tab.evaluate("[saddlescope.state.L, saddlescope.state.T]") == [3, 0.2]
    assert "L=3" in page.tab.evaluate("location.hash")


def test_a_compact_page_stays_compact_and_its_link_shows_the_whole(page):
    page.open("mode", compact=1)
    assert "compact=1" in page.tab.evaluate("location.hash")
    page.tab.click("#link")
    link = page.tab.inner_text("#text") or page.tab.text_content("#text")
    assert "view=mode" in link and "compact" not in link


def test_a_slider_of_the_keyboard_changes_picture_and_address(page):
    page.open("mode")
    page.tab.focus("#set-L")
    page.tab.keyboard.press("ArrowRight")
    page.wait()
    assert page.tab.input_value("#number-L") == "3"
    assert "L=3" in page.tab.evaluate("location.hash")
    assert page.numbers["critical"] == "Infinity"


def test_a_link_shows_a_friend_the_same_numbers(page, either):
    page.open("mode")
    page.tab.fill("#number-T", "1.4")
    page.tab.press("#number-T", "Enter")
    page.tab.click("#link")
    page.wait()
    link = page.tab.inner_text("#text")
    assert "T=1.4" in link
    assert "all paths end at s = 0" in page.tab.inner_text("#notes")
    assert "send them the file too" in page.tab.inner_text("#say")
    either.tab.goto(link)
    either.wait()
    assert either.numbers.keys() == page.numbers.keys()
    for key in page.numbers:
        np.testing.assert_allclose(either.number(key), page.number(key), rtol=1e-12, err_msg=key)


def test_errors_and_requests_are_noticed(either):
    either.open("mode")
    for script in ("console.error('lost')", "fetch('https://example.invalid').catch(() => null)"):
        either.tab.evaluate(script)
    for _ in range(50):
        found = "\n".join(either.faults)
        if "lost" in found and "https://example.invalid" in found:
            break
        either.tab.evaluate("new Promise((done) => setTimeout(done, 100))")
    either.faults.clear()
    assert "lost" in found
    assert "https://example.invalid" in found
