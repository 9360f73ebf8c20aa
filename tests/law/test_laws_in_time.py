"""The stated errors of time-dependent distributions and passages, against known cases not used for tuning."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import Diffusion1D, ModeSDE
from saddlescope.theory.sde import cells, evolution, quantiles

Q = np.concatenate([[1e-8, 1e-5], np.linspace(5e-4, 0.9995, 401), [1 - 1e-5]])


def constant(value):
    return lambda x: np.full_like(x, value)


def linear(rate, noise, start, time):
    """``dx = −rate x dt + noise dW``."""
    sde = Diffusion1D(lambda x: -rate * x, constant(noise))
    width = noise * np.sqrt(-np.expm1(-2 * rate * time) / (2 * rate))
    return sde, start, time, stats.norm(start * np.exp(-rate * time), width)


def drifting(speed, noise, start, time):
    sde = Diffusion1D(constant(speed), constant(noise), tails="exponential")
    return sde, start, time, stats.norm(start + speed * time, noise * time**0.5)


def geometric(rate, noise, start, time):
    sde = Diffusion1D(lambda x: rate * x, lambda x: noise * x, lower=0.0)
    return sde, start, time, stats.lognorm(noise * time**0.5, scale=start * np.exp((rate - noise**2 / 2) * time))


def square_root(mean, noise, start, time):
    """``dx = (mean − x) dt + noise √x dW``."""
    sde = Diffusion1D(lambda x: mean - x, lambda x: noise * np.sqrt(x), lower=0.0)
    unit = -(noise**2) * np.expm1(-time) / 4
    return sde, start, time, stats.ncx2(4 * mean / noise**2, start * np.exp(-time) / unit, scale=unit)


class Mapped:
    """The distribution of an increasing function of a normal variable."""

    def __init__(self, to_x, to_z, normal):
        self.to_x, self.to_z, self.normal = to_x, to_z, normal

    def cdf(self, x):
        return self.normal.cdf(self.to_z(x))

    def ppf(self, q):
        return self.to_x(self.normal.ppf(q))


def bent(rate, noise, start, time):
    """x = sinh z of an Ornstein–Uhlenbeck process z, by Itô's formula."""
    sde = Diffusion1D(
        lambda x: -rate * np.arcsinh(x) * np.sqrt(1 + x * x) + noise**2 * x / 2, lambda x: noise * np.sqrt(1 + x * x)
    )
    _, _, _, normal = linear(rate, noise, np.arcsinh(start), time)
    return sde, start, time, Mapped(np.sinh, np.arcsinh, normal)


def reverting(rate, noise, start, time):
    """x = e^z of an Ornstein–Uhlenbeck process z."""
    sde = Diffusion1D(lambda x: x * (noise**2 / 2 - rate * np.log(x)), lambda x: noise * x, lower=0.0)
    _, _, _, normal = linear(rate, noise, np.log(start), time)
    return sde, start, time, Mapped(np.exp, np.log, normal)


def settled(sde, start, time=3e4):
    """Long after its relaxation: the stationary law, by quadrature."""
    return sde, start, time, sde.stationary()


def mode(depth, temperature, noise=0.6, target=1.4):
    return ModeSDE(depth=depth, target=target, label_noise=noise, temperature=temperature)


def noiseless_target(temperature, start, time):
    """Linear regression without label noise: s* − s is a geometric Brownian motion."""
    sde = ModeSDE(depth=1, target=1.4, temperature=temperature)
    away = stats.lognorm(np.sqrt(2 * temperature * time), scale=abs(start - 1.4) * np.exp(-(1 + temperature) * time))
    sign = np.sign(start - 1.4)
    return sde, start, time, Signed(away, sign)


class Signed:
    def __init__(self, away, sign):
        self.away, self.sign = away, sign

    def cdf(self, x):
        return self.away.cdf(x - 1.4) if self.sign > 0 else self.away.sf(1.4 - x)

    def ppf(self, q):
        return 1.4 + self.away.ppf(q) if self.sign > 0 else 1.4 - self.away.isf(q)


def by_cells(sde, start, time):
    """Quantiles against fixed cells, which are a hundred times as accurate there."""
    stage = cells.stage_of(sde.scale_speed, start, time, (None, None))
    (reference,) = evolution.evolve(sde.scale_speed, stage, start, np.array([time]), 1e-7)
    return Followed(sde), start, time, reference


class Followed:
    def __init__(self, sde):
        self.sde = sde

    def evolve(self, start, times):
        with np.errstate(all="ignore"):
            return quantiles.evolve(self.sde.scale_speed, start, np.array(times), 1e-5)


def well(noise):
    return Diffusion1D(lambda x: x - x**3, constant(noise))


CASES = [
    *((linear, 0.3, noise, 1.7, time) for noise, time in ((2.3, 0.05), (0.4, 6.0), (0.03, 0.7), (7e-4, 6.0))),
    *((linear, 2.7, noise, -0.6, time) for noise, time in ((2.3, 0.7), (0.4, 0.05), (7e-4, 0.7), (2e-6, 0.2))),
    *((linear, -0.5, noise, 0.2, time) for noise, time in ((1.5, 2.0), (0.02, 9.0), (5e-5, 4.0))),
    *((linear, -1.7, noise, -0.1, time) for noise, time in ((1.5, 2.5), (0.02, 1.0), (5e-5, 5.0))),
    *((drifting, speed, noise, 0.3, time) for speed, noise, time in ((-0.8, 2.0, 5.0), (0.8, 0.05, 40.0))),
    *((drifting, speed, noise, 0.3, time) for speed, noise, time in ((0.8, 3e-4, 2.0), (-0.8, 1.0, 3e6))),
    *((geometric, rate, noise, 1.3, 1.5) for rate, noise in ((-0.4, 1.2), (-0.4, 0.15), (0.9, 2e-3), (0.9, 0.6))),
    *((square_root, mean, noise, 0.8, time) for mean, noise, time in ((1.3, 1.4, 0.4), (4.0, 1.4, 3.0))),
    *(
        (square_root, mean, noise, 0.8, time)
        for mean, noise, time in ((1.3, 0.2, 0.6), (1.3, 0.01, 1.1), (0.5, 0.9, 1.0))
    ),
    *((bent, 0.8, noise, 2.0, time) for noise, time in ((0.9, 0.7), (0.2, 2.0), (0.01, 0.7), (1e-4, 2.0))),
    *((reverting, 1.3, noise, 0.1, time) for noise, time in ((0.9, 0.4), (0.1, 1.5), (1e-3, 0.4), (1e-5, 1.5))),
    *((noiseless_target, temperature, start, 1.2) for temperature, start in ((1e-5, 0.1), (0.02, 3.0), (0.5, 0.1))),
    *((settled, mode(1, temperature), -1.0) for temperature in (2e-5, 0.02, 0.6, 1.7)),
    *((settled, mode(2, temperature), 0.03) for temperature in (2e-5, 0.02, 0.35)),
    *((settled, mode(3, temperature), 0.1) for temperature in (2e-5, 0.02, 0.35)),
    *((settled, mode(5, temperature), 0.2) for temperature in (2e-5, 0.02)),
    (settled, Diffusion1D(lambda x: 2 - 3.7 * x, lambda x: np.sqrt(1.3 * x * (1 - x)), 0.0, 1.0), 0.2),
    (settled, well(0.7), 0.4, 300.0),
    *((by_cells, mode(2, 0.21).log_diffusion, -1.0, time) for time in (1.0, 2.5)),
    *((by_cells, mode(3, 0.15).log_diffusion, -0.8, time) for time in (0.6, 1.4)),
    (by_cells, mode(1, 0.45).log_diffusion, -0.5, 0.8),
    *((by_cells, well(0.6), -1.2, time) for time in (0.5, 8.0)),
]
CHEAP = 9


def marked(cases):
    def named(k, case):
        return "-".join([case[0].__name__, *(f"{v:g}" for v in case[1:] if isinstance(v, (int, float))), str(k)])

    marks = [() if k % CHEAP == 0 else pytest.mark.soak for k in range(len(cases))]
    return [pytest.param(cases[k], id=named(k, cases[k]), marks=marks[k]) for k in range(len(cases))]


@pytest.mark.parametrize("case", marked(CASES))
def test_no_law_is_further_off_than_it_says(case):
    make, *given = case
    sde, start, time, exact = make(*given)
    (law,) = sde.evolve(start, [time])
    x = exact.ppf(Q)
    off = float(np.abs(law.cdf(x) - exact.cdf(x)).max())
    print(f"{type(law).__name__:12s} error {off:.1e}, stated {law.error:.1e}")
    assert off < law.error <= 1e-5


PASSAGES = [
    *((drifting, 0.8, noise) for noise in (0.9, 0.07, 2e-3)),
    *((linear, 1.6, noise) for noise in (0.5, 0.04, 3e-3)),
]


@pytest.mark.parametrize("case", marked(PASSAGES))
def test_no_passage_is_further_off_than_asked(case):
    make, rate, noise = case
    if make is drifting:  # from 0.3 over a distance of 1
        sde, start, target = make(rate, noise, 0.3, 1.0)[0], 0.3, 1.3
        exact = stats.invgauss(noise**2 / rate, scale=1 / noise**2)
        times = exact.ppf([1e-3, 0.1, 0.5, 0.9, 0.999])
        expected = exact.cdf(times)
    else:  # from 1 to the middle, by reflection
        sde, start, target = make(rate, noise, 1.0, 1.0)[0], 1.0, 0.0
        times = (np.log(1 / noise) + np.array([-0.6, 0.5, 1.5, 4.0])) / rate
        spread = noise * np.sqrt(-np.expm1(-2 * rate * times) / (2 * rate))
        expected = 2 * stats.norm.sf(np.exp(-rate * times) / spread)
    np.testing.assert_allclose(sde.passage_cdf(times, start, target, tol=2e-5), expected, atol=2e-5)
