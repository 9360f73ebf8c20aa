"""The compiled integrator of one mode's SDE against a plain NumPy twin, and against itself cut differently."""

import numpy as np
import pytest
from scipy.optimize import brentq

from saddlescope import _kernel
from saddlescope.kernel import mode_paths as ensemble
from saddlescope.kernel import streams
from saddlescope.kernel.mode_paths import integrate
from saddlescope.theory import ModeSDE

OVERSHOOT = 0.5825971579390107


def local(mode, x):
    """Pull f with four, variance rate h with two derivatives in x = log a (depth 1: s), and the local rate."""
    L, T, (center, floor), (b1, b2) = mode.depth, mode.temperature, mode.vertex, mode.pull
    decay = mode.weight_decay if L >= 3 else 0.0
    if L == 1:
        d = x - center
        slope = 2 * T * mode.alpha1
        h = T * (mode.alpha1 * d * d + floor)
        return (b2 - b1 * x, -b1, 0.0, 0.0, 0.0), (h, slope * d, slope), b1 + T * mode.alpha1
    e, s = np.exp((L - 2) * x), np.exp(L * x)
    pulls = [(L - 2) ** k * b2 * e - (2 * L - 2) ** k * b1 * e * s for k in range(5)]
    pulls[0] -= decay
    powers = [(2 * L - 4 + k * L, w) for k, w in enumerate((mode.alpha3, -2 * mode.alpha2, mode.alpha1))]
    h, h1, h2 = (T * sum(w * p**k * np.exp(p * x) for p, w in powers) for k in range(3))
    rate = (L - 1) * e * (abs(b2) + b1 * s) + decay
    rate += T * e * e * ((1 + (L - 2) ** 2) * mode.g(s) + (2 * L - 2) ** 2 * mode.alpha1 * s * s)
    return pulls, (h, h1, h2), rate


def flowed(pulls, t):
    """Taylor's polynomial of order 5 of x' = f(x), and its part from order 3 on."""
    f, f1, f2, f3, f4 = pulls
    terms = [
        f * t,
        f * f1 * t**2 / 2,
        f * (f1**2 + f * f2) * t**3 / 6,
        f * (f1**3 + 4 * f * f1 * f2 + f**2 * f3) * t**4 / 24,
        f * (f1**4 + 11 * f * f1**2 * f2 + 4 * f**2 * f2**2 + 7 * f**2 * f1 * f3 + f**3 * f4) * t**5 / 120,
    ]
    return sum(terms), sum(terms[2:])


def walk(mode, start, times, targets, stream, tol):
    """One trajectory by the weak Taylor scheme of order 2, of order 5 in the pull alone, written from its formula."""
    L, ito = mode.depth, float(mode.depth > 1)
    into = (lambda s: s) if L == 1 else (lambda s: np.log(s) / L)
    x, time, seen, left_over = into(start), 0.0, [], []
    levels, passages = [into(target) for target in targets], [np.inf] * len(targets)
    noise = [np.sqrt(local(mode, level)[1][0]) for level in levels]
    for end in times:
        while True:
            pulls, (h, h1, h2), rate = local(mode, x)
            f, f1, f2, *_ = pulls
            dt = tol / rate
            last = not dt < end - time
            dt = end - time if last else dt
            if not left_over:
                left_over = list(stream.pair())
            dw = np.sqrt(dt) * float(left_over.pop(0)[0])
            a, a1, a2 = f - ito * h / 2, f1 - ito * h1 / 2, f2 - ito * h2 / 2
            b = np.sqrt(h)
            b1, b2 = h1 / (2 * b), h2 / (2 * b) - h1**2 / (4 * b**3)
            moved = a * dt + b * dw + b * b1 * (dw**2 - dt) / 2
            moved += (a1 * b + a * b1 + b * b * b2 / 2) * dw * dt / 2 + (a * a1 + b * b * a2 / 2) * dt**2 / 2
            moved += flowed(pulls, dt)[1]
            before, x, time = x, x + moved, end if last else time + dt
            for j, level in enumerate(levels):
                side = np.sign(level - into(start))
                beyond = side * (x - level)
                if passages[j] == np.inf and dt > 0 and beyond + OVERSHOOT * np.sqrt(dt) * (b + noise[j]) / 2 > 0:
                    noise_part = moved - flowed(pulls, dt)[0]

                    def over(share, at=(before, pulls, dt, noise_part, side, level)):
                        start, pulls, dt, noise_part, side, level = at
                        return side * (start + flowed(pulls, share * dt)[0] + share * noise_part - level)

                    passages[j] = time - (1 - (brentq(over, 0, 1, xtol=1e-15) if beyond > 0 > over(0) else 1)) * dt
            if last:
                break
        seen.append(x if L == 1 else np.exp(L * x))
    return seen, passages


MODES = {
    "depth 1": ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.3),
    "depth 2": ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.3),
    "depth 3": ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=0.3),
    "depth 5": ModeSDE(depth=5, target=1.0, label_noise=0.1, temperature=0.1),
    "depth 1, decay": ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.3, weight_decay=0.2),
    "depth 2, decay": ModeSDE(depth=2, target=1.2, label_noise=0.5, temperature=0.3, weight_decay=0.2),
    "depth 4, decay": ModeSDE(depth=4, target=1.3, label_noise=0.5, temperature=0.1, weight_decay=0.2),
    "any moments": ModeSDE(depth=2, moments=(0.4, 0.3, 0.9, 1.1, 0.8), temperature=0.3),
}
TIMES, TARGETS = [0.0, 0.7, 3.0], [0.9, 0.05]


@pytest.mark.parametrize("name", MODES)
def test_the_kernel_takes_the_twins_steps(name):
    mode, members = MODES[name], 5
    found = integrate(mode.kernel_mode, 0.3, TIMES, TARGETS, members, seed=4, tol=0.1, threads=1)
    words = streams.seed_words(4, np.arange(members), streams.NOISE)
    slow = [walk(mode, 0.3, TIMES, TARGETS, streams.Streams(words[k : k + 1]), 0.1) for k in range(members)]
    np.testing.assert_allclose(found[0], [seen for seen, _ in slow], rtol=1e-7)
    np.testing.assert_allclose(found[1], [passages for _, passages in slow], rtol=1e-7)
    assert np.isfinite(found[1]).any()


def euler(mode, start, dt, saves, source):
    """Euler–Maruyama in the weight coordinate from its formula, seen after ``saves`` steps, one normal a step."""
    L, dt = mode.depth, source.dtype.type(dt)
    a, seen, left_over = np.full(len(source.words), start ** (1 / L), source.dtype), [], []
    for k in range(max(saves) + 1):
        seen += [a**L] * saves.count(k)
        left_over = left_over or list(source.pair())
        pull = mode.beta2 - mode.beta1 * a**L
        a = (
            a
            - mode.weight_decay * dt * a
            + a ** (L - 1) * (pull * dt + np.sqrt(mode.temperature * mode.g(a**L) * dt) * left_over.pop(0))
        )
    return np.stack(seen, axis=1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "mode", [*MODES.values(), ModeSDE(depth=3, target=1.5, label_noise=0.3, temperature=0.1, weight_decay=0.2)]
)
def test_a_fixed_step_is_plain_euler(mode, dtype):
    dt, saves, members = 0.002, [0, 1, 6, 6, 7, 100], 171
    words = streams.seed_words(1, np.arange(members), streams.NOISE, dtype)
    expected = euler(mode, 0.3, dt, saves, streams.Streams(words))
    found = mode.simulate(0.3, dt * np.array(saves), members, seed=1, dt=dt, dtype=dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-8 if dtype == "float64" else 2e-4, atol=1e-10)


def test_fixed_steps_depend_on_nothing_but_the_member():
    mode, times = MODES["depth 3"], [0.0, 0.5, 1.0]
    whole = mode.simulate(0.3, times, 5000, dt=0.1, threads=2, dtype="float32")
    np.testing.assert_array_equal(whole, mode.simulate(0.3, times, 5000, dt=0.1, threads=1, dtype="float32"))
    np.testing.assert_array_equal(whole[:13], mode.simulate(0.3, times, 13, dt=0.1, dtype="float32"))
    np.testing.assert_array_equal(whole[:13, 2:], mode.simulate(0.3, times[2:], 13, dt=0.1, dtype="float32"))
    found = {
        name: ensemble.walk(mode.kernel_mode, 0.3, times, 0.1, 99, 0, 1, "float32", name)
        for name in _kernel.instruction_sets()
    }
    for name in {"avx2", "avx512"} & set(found):
        np.testing.assert_array_equal(found[name], whole[:99])
    np.testing.assert_allclose(found["baseline"], whole[:99], rtol=1e-4)


def test_a_path_that_overflows_is_nan():
    wild = ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=2.0)
    for dtype in ("float64", "float32"):
        ends = wild.simulate(1.0, [0.0, 200.0], 100, dt=0.5, dtype=dtype)
        assert (ends[:, 0] == 1.0).all()
        assert np.isnan(ends[:, 1]).sum() > 10
        assert not np.isinf(ends).any()


def test_paths_of_deep_modes_that_climb_out_of_sight_come_back():
    """At depth 32 about one path in a hundred overflows and returns within a negligible time."""
    mode = ModeSDE(depth=32, target=1.0, label_noise=0.7, temperature=0.5 / 32)
    ends = np.sort(mode.simulate(1.0, [10.0], 4000, seed=0)[:, 0])
    assert (ends > 0).all() and np.isfinite(ends).all()
    beyond = np.abs(mode.stationary().cdf(ends) - (np.arange(4000) + 0.5) / 4000).max()
    assert beyond < np.sqrt(np.log(2 / 1e-6) / 8000)  # Dvoretzky, Kiefer & Wolfowitz at 1e-6


def test_what_a_fixed_step_refuses():
    mode = MODES["depth 2"]
    for arguments, message in (
        ({"dt": 0.0}, "dt must be a positive number, got 0.0"),
        ({"dt": 0.3}, "times must be whole steps of dt = 0.3"),
        ({"dt": 0.1, "tol": 0.1}, "dt and tol exclude each other"),
        ({"dt": 0.1, "dtype": "float16"}, 'dtype must be "float32" or "float64"'),
        ({"dtype": "float32"}, 'dtype must be "float64" with steps that follow the rate'),
    ):
        with pytest.raises(ValueError, match=message):
            mode.simulate(0.3, [1.0], 2, **arguments)


def test_members_do_not_depend_on_threads_or_on_each_other():
    mode = MODES["depth 3"]
    whole = integrate(mode.kernel_mode, 0.3, TIMES, TARGETS, 5000, seed=0, tol=0.2, threads=2)
    one_thread = integrate(mode.kernel_mode, 0.3, TIMES, TARGETS, 5000, seed=0, tol=0.2, threads=1)
    few = integrate(mode.kernel_mode, 0.3, TIMES, TARGETS, 13, seed=0, tol=0.2, threads=2)
    for all_, same, some in zip(whole, one_thread, few, strict=True):
        np.testing.assert_array_equal(all_, same)
        np.testing.assert_array_equal(all_[:13], some)
    assert len(np.unique(whole[0][:, -1])) == 5000
    other = integrate(mode.kernel_mode, 0.3, TIMES, TARGETS, 13, seed=1, tol=0.2, threads=2)
    assert (other[0][:, 1:] != few[0][:, 1:]).all()


def test_instruction_sets_agree():
    mode = MODES["depth 5"]
    found = {
        name: integrate(mode.kernel_mode, 0.3, TIMES, TARGETS, 100, seed=0, tol=0.1, threads=1, instruction_set=name)
        for name in _kernel.instruction_sets()
    }
    if {"avx2", "avx512"} <= set(found):
        np.testing.assert_array_equal(found["avx2"][0], found["avx512"][0])
        np.testing.assert_array_equal(found["avx2"][1], found["avx512"][1])
    for states, _ in found.values():
        np.testing.assert_allclose(states, found["baseline"][0], rtol=1e-6)


def test_each_member_may_have_its_own_start():
    starts = np.linspace(0.1, 2.0, 50)
    found = MODES["depth 2"].simulate(starts, [0.0, 0.5], 50, seed=3)
    np.testing.assert_allclose(found[:, 0], starts, rtol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_without_noise_the_curve_is_gradient_flow(depth):
    mode = ModeSDE(depth=depth, target=1.0, temperature=0.0)
    times = np.linspace(0, 6, 5)
    found = mode.simulate(0.2, times, 3, tol=0.01)
    np.testing.assert_allclose(found, np.broadcast_to(mode.flow(times, 0.2), found.shape), rtol=1e-4)
    passage = mode.simulate_passages(0.2, [0.5], 20.0, 3, tol=0.01)
    np.testing.assert_allclose(passage, mode.passage(0.2, 0.5)[0], rtol=1e-4)
