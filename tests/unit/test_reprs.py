"""What objects print: short at any size, tables in notebooks, and independent of equality and of the TOML."""

import copy
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope import _show, theory
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.reproduce import select
from saddlescope.comparison import Comparison, Row
from saddlescope.data.base import CHEAP
from saddlescope.plan import Logspaced
from saddlescope.schedules import Cosine, Step, Warmup
from saddlescope.theory import Atoms, Balance, Diffusion1D, Mixture, ModeSDE, determinant, heavy_ball, phases
from saddlescope.theory.sde.laws import Known

RNG = np.random.default_rng(0)
DEEP = sc.DeepLinear((32, *(64,) * 511, 32))
LARGE = RNG.standard_normal((1000, 1000))
SAMPLES = RNG.standard_normal((100_000, 12))
MODE = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)
OU = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, 2.0))
HEADS = Number("fraction of heads", Interval(0.5, 0.48, 0.52), (0.45, 0.55))
ROW = Row("largest CDF difference", 0.06572, 0.0, 0.06572, 0.041, 0.24712, "agrees")
PAIR = [np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]

SMALL = {
    "problem": sc.Problem(sc.DeepLinear((2, 3, 2)), sc.GaussianData(np.eye(2)), sc.init.Gaussian(scale=0.1)),
    "deep linear": sc.DeepLinear((2, 3, 2)),
    "diagonal": sc.Diagonal(3, 2),
    "gaussian data": sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5),
    "coloured": sc.GaussianData(np.eye(2), [[2.0, 0.5], [0.5, 1.0]]),
    "dataset": sc.Dataset([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[2.0], [0.0], [2.0]], 0.5),
    "moments": sc.Moments(2, 2, 3, 1, 1),
    "balanced": sc.init.Balanced(scale=0.1),
    "given": sc.init.Given([[[0.1, 0.0]], [[0.2]]]),
    "flow": sc.GradientFlow(),
    "sgd": sc.SGD(1e-3, 16),
    "langevin": sc.Langevin(1e-3, 0.5, "aligned", 1e-4, 2, weight_decay=0.1, schedule=Warmup(10, Cosine(90, 0.1))),
    "step": Step(100, 0.5),
    "logspaced": Logspaced(10),
    "accumulate": sc.Accumulate(0.0, 2.0),
    "plan": sc.Plan(100),
    "mode": MODE,
    "mode with decay": ModeSDE(depth=3, moments=(2, 2, 3, 1, 1), temperature=0.1, weight_decay=0.1),
    "mode above T_c": ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=1.0),
    "mode without a teacher": ModeSDE(depth=2, target=0.0, label_noise=1.0, temperature=1.0),
    "mode with a negative target": ModeSDE(depth=1, target=-1.0, temperature=0.0),
    "mode without noise": ModeSDE(depth=4, moments=(0, 0, 0, 1, 1), temperature=0.0, weight_decay=2.0),
    "mode beyond floating point": ModeSDE(depth=2, target=1.0, label_noise=1e160, temperature=1.0),
    "stationary": MODE.stationary(),
    "infinite variance": ModeSDE(depth=1, target=1.0, label_noise=2.0, temperature=2.5).stationary(),
    "two points": ModeSDE(depth=2, target=1.0, temperature=2.0).stationary(start=0.3),
    "boltzmann": MODE.boltzmann(),
    "plateau": MODE.plateau_passage(1e-3),
    "in time": MODE.evolve(1e-3, [4.0])[0],
    "in time on cells": OU.evolve(1.0, [0.5])[0],
    "absorbed": OU.evolve(1.0, [0.5], lower=0.0)[0],
    "mixture": Mixture((Atoms([0.0], [1.0]), Known(stats.norm(1, scale=2))), (0.25, 0.75)),
    "cauchy": Known(stats.cauchy()),
    "diffusion": OU,
    "a drift that fails": Diffusion1D(lambda x: 1 / 0, np.ones_like),
    "balance": Balance.of([1.0], [1.0], np.ones((2, 1)), np.ones((2, 1)), 0.1),
    "heavy ball": heavy_ball.balance([[1.0]], [[2.0]], [[0.5]], [[0.25]]),
    "rescaling": theory.Rescaling("symmetric", 0.0),
    "boundaries": OU.boundaries,
    "boundary": OU.boundaries.lower,
    "gradient noise": sc.GaussianData([[1.0]]).gradient_noise(),
    "interval": Interval(0.5, 0.48, 0.52),
    "extrema": phases.extrema(MODE),
    "modes": sc.GaussianData(np.eye(2)).modes,
    "eigenvalues": determinant.eigenvalue_sde(sc.GaussianData([[0.0]], label_noise=1.0), 0.1, PAIR),
    "singular values": theory.singular_value_sde(sc.GaussianData(np.eye(2)), 0.1, [np.diag([1.0, 0.5])[None]]),
    "comparison": Comparison((ROW, Row("mean", 0.5, 0.5, 0.0, 0.1, np.nan, "not judged")), 1000, 0.0),
    "number": HEADS,
    "rival": Rival("biased coin", [HEADS]),
    "evidence": Evidence([HEADS], [HEADS], [Run("coin", "", 0.0)]),
}
HUGE = {
    "problem": sc.Problem(DEEP, sc.GaussianData(np.eye(32)), sc.init.Given([np.zeros(s) for s in DEEP.shapes])),
    "deep linear": DEEP,
    "teacher": sc.GaussianData(LARGE, label_noise=0.123456789),
    "spectrum": sc.GaussianData.from_spectrum(np.arange(400.0), 400, 400),
    "samples": sc.Dataset(SAMPLES, SAMPLES[:, :3]),
    "held out": sc.Dataset(SAMPLES[:900], SAMPLES[:900, :3], 0.1).split(100),
    "given to each": sc.init.Given([np.zeros((10_000, 3, 2)), np.zeros((10_000, 2, 3))]),
    "scales": sc.init.Gaussian(scale=tuple(np.linspace(0.01, 0.02, 512))),
    "plan": sc.Plan(
        10**6,
        save_at=range(10**6),
        members=range(10_000),
        keep="trajectories",
        dtype="float32",
        threads=4,
        seed=2**62,
        events=("learning_time", "noise_peak"),
        accumulate=sc.Accumulate(0.123456789, 2.3456789, 10**6, 10**6, 10**6, 40),
        observe=["mode_matrix", "x" * 100_000],
    ),
    "mode": ModeSDE(depth=2**40, target=1 / 3, label_noise=2 / 3, temperature=1e-300, weight_decay=1e-9),
    "atoms": Atoms(np.arange(1e4), np.full(10_000, 1e-4)),
    "mixture": Mixture(tuple(Atoms([float(k)], [1.0]) for k in range(20)), (0.05,) * 20),
    "balance": Balance(np.ones(300), np.ones(200), np.eye(300), np.eye(200), 0.1),
    "heavy ball": heavy_ball.balance(LARGE, LARGE, LARGE, LARGE),
    "modes": sc.GaussianData.from_spectrum(np.arange(400.0), 400, 400).modes,
    "comparison": Comparison((Row("mean", *(-1.23456789e-100,) * 5, "not judged"),) * 6, 10**9, 0.5),
    "number": Number("n" * 5000, Interval(0.5, 0.48, 0.52), catches="c" * 5000),
    "evidence": Evidence([HEADS] * 1000, [HEADS] * 1000, [Run("r" * 1000, "t" * 10**6, 0.0)] * 1000),
    "rival": Rival("t" * 1000, [HEADS] * 1000),
    **{claim.name: claim for claim in select().values()},
}
EVERY = [(size, name) for size, objects in (("small", SMALL), ("huge", HUGE)) for name in objects]


def made(size, name):
    return (SMALL if size == "small" else HUGE)[name]


class Balanced(HTMLParser):
    """Checks that tags are closed in their order, and that no style sets a colour."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert all("color" not in str(text) and "background" not in str(text) for _, text in attrs)
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(("size", "name"), EVERY)
def test_short_at_a_prompt_and_a_table_in_a_notebook(size, name):
    thing = made(size, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = repr(thing)
    assert shown and len(shown) <= 1500
    assert len(shown.splitlines()) <= 12
    assert max(map(len, shown.splitlines())) <= 100
    if hasattr(thing, "_repr_html_"):
        assert "table" in Balanced(thing._repr_html_()).tags
    else:
        assert isinstance(thing, tuple)  # a NamedTuple


def test_a_text_decomposes_no_large_matrix(monkeypatch):
    decompose, sizes = np.linalg.svd, []

    def counted(matrix, *arguments, **options):
        sizes.append(matrix.size * min(matrix.shape))
        return decompose(matrix, *arguments, **options)

    monkeypatch.setattr(np.linalg, "svd", counted)
    for data in (sc.GaussianData(np.eye(2)), sc.Dataset(SAMPLES[:900], SAMPLES[:900, :3])):
        assert "s*=[" in repr(data)
    assert sizes and max(sizes) <= CHEAP
    sizes.clear()
    for data in (sc.GaussianData(LARGE), sc.Dataset(SAMPLES, SAMPLES[:, :3])):
        assert "s*=not computed yet" in repr(data)
    assert not sizes and "s*=[399, " in repr(HUGE["spectrum"]) and not sizes


@pytest.mark.parametrize("name", [name for name in SMALL if hasattr(SMALL[name], "_repr_html_")])
def test_html_is_escaped(name, monkeypatch):
    assert "<b>" not in _show.html("<b>", [("<b>", "<b>")], ["<b>", "<b>"], "<b>")
    page = SMALL[name]._repr_html_()
    assert "<lambda>" not in page


def test_texts_as_documented():
    assert repr(SMALL["problem"]) == (
        "Problem\n"
        "  network  DeepLinear(widths=(2, 3, 2))\n"
        "  data     GaussianData(dx=2, dy=2, covariance=white, s*=[1, 1], label_noise=0)\n"
        "  init     Gaussian(scale=0.1)\n"
        "  weights  12 in 2 layers"
    )
    assert repr(SMALL["sgd"]) == "SGD(lr=0.001, batch_size=16)"
    assert repr(SMALL["dataset"]) == "Dataset(samples=3, dx=2, dy=1, s*=[2], label_noise=0.5)"
    assert repr(SMALL["mode"]) == (
        "ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)\n"
        "  critical temperature T_c  0.8889\n"
        "  regime                    T = 0.0563 T_c: T < T_c/3, the density vanishes at 0\n"
        "  noise peak                none"
    )
    assert "T = 3 T_c: all mass ends at 0" in repr(SMALL["mode above T_c"])
    assert "standard deviation  inf" in repr(SMALL["infinite variance"])
    assert "mean                –" in repr(SMALL["cauchy"])
    assert "0.7855 at 1, 0.2145 at 0" in repr(SMALL["two points"])
    assert "ends       –" in repr(SMALL["a drift that fails"])
    assert "stationary distribution of ModeSDE(depth=2, target=1.0" in repr(SMALL["stationary"])
    assert "weights=[64 × 32, 64 × 64 (510 times), 32 × 64]" in repr(HUGE["problem"])
    assert "512 entries" in repr(sc.init.Gaussian(scale=(0.1,) * 512))
    assert "s*=[399, 398, 397, 396, 395, 394, …]" in repr(HUGE["spectrum"])
    assert "s*=not computed yet" in repr(HUGE["teacher"]) and "modes" not in vars(HUGE["teacher"])


def test_a_data_set_still_warns_after_it_was_shown():
    """The text must not use up the warning that inputs repeat each other."""
    data = sc.Dataset([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], [[1.0], [2.0], [3.0]])
    repr(data)
    with pytest.warns(UserWarning, match="rank 1 of 2"):
        assert data.teacher.shape == (1, 2)


@pytest.mark.parametrize("name", ["problem", "gaussian data", "dataset", "plan", "sgd", "given"])
def test_equality_hash_and_toml_do_not_depend_on_the_text(name, monkeypatch):
    part = SMALL[name]
    before = hash(part), part.to_toml() if name == "problem" else None
    repr(part)
    monkeypatch.setattr(_show, "call", lambda *arguments: "other")
    assert hash(part) == before[0] and part == copy.deepcopy(part)
    assert before[1] is None or sc.Problem.from_toml(before[1]) == part


def test_data_that_look_alike_are_not_equal():
    one, other = LARGE, LARGE.copy()
    other[0, 0] += 1e-9
    assert repr(sc.GaussianData(one)) == repr(sc.GaussianData(other))
    assert sc.GaussianData(one) != sc.GaussianData(other)


def test_a_title_changes_no_law():
    law = Atoms([0.0, 1.0], [0.5, 0.5])
    assert repr(theory.sde.laws.titled(law, "coin")).startswith("Atoms: coin\n")
    assert repr(law).startswith("Atoms\n") and theory.sde.laws.titled(law, "coin").mean() == law.mean()


def test_numbers_in_texts():
    assert [_show.number(x) for x in (0.123456, np.inf, -np.inf, np.nan, None, -0.0, 1e300)] == [
        "0.1235",
        "inf",
        "-inf",
        "–",
        "–",
        "0",
        "1e+300",
    ]
    assert _show.value("x" * 1000).endswith("…") and len(_show.value("x" * 1000)) == _show.SHORT
    assert _show.value(np.array([1.0, 2.0])) == "[1., 2.]" and _show.value(()) == "()" and _show.value((1,)) == "(1,)"
    assert _show.value(np.zeros((0, 3))) == "array 0 × 3" or _show.value(np.zeros((0, 3))).startswith("[")


def test_every_claim_is_shown():
    assert all(isinstance(HUGE[claim.name], Claim) for claim in select().values())
