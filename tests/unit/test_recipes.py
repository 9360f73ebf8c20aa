"""The recipes of CONTRIBUTING, followed in a copy of the package: exactly the files that they name are changed."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import saddlescope
from saddlescope import _kernel

# The copy comes before every other way to import the package, an editable installation included.
PREFER_COPY = "import sys; from importlib.machinery import PathFinder; sys.meta_path.insert(0, PathFinder); "


class Copy:
    """The package in a separate folder; ``changed`` lists the files that were edited or added."""

    def __init__(self, folder):
        self.folder, self.changed = folder, set()
        self.package = folder / "saddlescope"
        shutil.copytree(
            Path(saddlescope.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
        shutil.copy(_kernel.__file__, self.package)

    def add(self, file, text):
        assert not (self.package / file).exists()
        (self.package / file).write_text(text)
        self.changed.add(file)

    def insert(self, file, before, line):
        """Insert text in front of the only line that starts with ``before``."""
        lines = (self.package / file).read_text().splitlines(keepends=True)
        (place,) = (n for n, old in enumerate(lines) if old.startswith(before))
        (self.package / file).write_text("".join([*lines[:place], f"{line}\n", *lines[place:]]))
        self.changed.add(file)

    def replace(self, file, old, new):
        """Replace text that occurs once."""
        text = (self.package / file).read_text()
        assert text.count(old) == 1
        (self.package / file).write_text(text.replace(old, new))
        self.changed.add(file)

    def run(self, code):
        prefix = f"{PREFER_COPY} sys.path.insert(0, {str(self.folder)!r}); "
        return subprocess.run(
            [sys.executable, "-c", prefix + code], cwd=self.folder, capture_output=True, text=True, timeout=300
        )


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


CLAIM = '''
"""Gradient descent ends at the teacher."""

from saddlescope.claims import intervals, tools
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.init import Gaussian
from saddlescope.methods import GD
from saddlescope.plan import Plan


def experiment(quick):
    problem = tools.network(2, 4, (2.0, 1.0), Gaussian(scale=0.1), label_noise=0.0)
    dataset = tools.run(problem, GD(lr=0.05), Plan(steps=1000, trajectories=64 if quick else 256))
    end = intervals.exact(float(dataset["mode_strength"].sel(mode=0, statistic="mean")[-1]))
    near = tools.around(2.0, 0.01)
    start = intervals.exact(float(dataset["mode_strength"].sel(mode=0, statistic="mean")[0]))
    return Evidence(
        numbers=[Number("strength at the end", end, near)],
        controls=[Number("strength at the start", start, near)],
        rivals=[Rival("ends at s* / 2", [Number("strength at the end", end, tools.around(1.0, 0.01))])],
        runs=[Run.of("gradient descent", dataset)],
    )


def draw(axes, evidence):
    axes[0].plot([0, 1], [0, 2])


CLAIM = Claim(
    name="descends",
    title="Gradient descent ends at the teacher",
    statement="From small weights gradient descent learns s*.",
    source="a recipe",
    method="GD, learning rate 0.05.",
    control="The start must not be at s*.",
    caption="A line.",
    experiment=experiment,
    draw=draw,
    why="Training without noise finds the teacher. It is the case to compare others with.",
    equations=("s \\to s^*",),
    proved="Convergence from small weights.",
    unknown="Other rates.",
    related=("noise-peak",),
    panels=1,
)
'''


def test_add_a_claim(copy):
    """One module, and two lines in the paper's list."""
    copy.add("claims/rank_deficiency/descends.py", CLAIM)
    copy.insert("claims/rank_deficiency/__init__.py", "    determinant_line,", "    descends,")
    copy.insert("claims/rank_deficiency/__init__.py", "    determinant_line.CLAIM,", "    descends.CLAIM,")
    done = copy.run("from saddlescope.cli import app; app(['reproduce', 'descends', '--quick', '-o', 'report'])")
    assert done.returncode == 0, done.stderr
    (claim,) = json.loads((copy.folder / "report" / "report.json").read_text())["claims"]
    assert (claim["name"], claim["verdict"]) == ("rank-deficiency/descends", "confirmed")
    assert copy.changed == {"claims/rank_deficiency/descends.py", "claims/rank_deficiency/__init__.py"}
    listed = copy.run("from saddlescope.cli import app; app(['claims'])")
    assert "rank-deficiency/descends" in listed.stdout


TRACE = """
    "trace": Observable(
        (), "y/x", "trace", "Tr P", of=lambda s: np.trace(s.maps[0], axis1=1, axis2=2), extra=True
    ),"""
RUN = """
import numpy as np, saddlescope as sc
problem = sc.Problem(sc.DeepLinear((2, 3, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 1.0]]), sc.init.Gaussian(scale=0.1))
plan = sc.Plan(steps=20, trajectories=4, saves=2, keep="weights", observe=("trace",))
for engine in ("native", "reference"):
    sc.simulate(problem, sc.SGD(lr=0.05, batch_size=4), plan, engine=engine, out=f"{engine}.zarr", progress=False)
    run = sc.load(f"{engine}.zarr")
    expected = np.trace(run.W2.values @ run.W1.values, axis1=2, axis2=3)
    np.testing.assert_allclose(run.trace.values, expected, rtol=1e-12)
assert "trace" not in sc.simulate(problem, sc.SGD(lr=0.05, batch_size=4), sc.Plan(steps=2), progress=False)
"""


def test_add_an_observable(copy):
    """One entry in one table: both engines, plans, runs and stores know it, and only plans that request it pay."""
    copy.insert("observables.py", '    "loss": Observable(', TRACE)
    (copy.folder / "check.py").write_text(RUN)
    done = copy.run("import runpy; runpy.run_path('check.py')")
    assert done.returncode == 0, done.stderr
    assert copy.changed == {"observables.py"}


RESIDUAL = '''
"""Residual linear networks ``x -> (I + W_L) … (I + W_1) x``."""

import numpy as np

from saddlescope._parts import frozen
from saddlescope.networks import deep_linear
from saddlescope.networks.deep_linear import DeepLinear


def factors(weights):
    return [np.eye(layer.shape[1], dtype=layer.dtype) + layer for layer in weights]


@frozen
class Residual(DeepLinear):
    kernel = ""
    mode_sde = False

    def check(self, data):
        DeepLinear.check(self, data)
        if not all(np.array_equal(basis, np.eye(len(basis))) for basis in data.bases):
            raise ValueError("teacher must be diagonal with decreasing entries for a Residual network")

    def end_to_end(self, weights):
        return deep_linear.end_to_end(factors(weights))

    def pull_back(self, weights, gradient):
        return deep_linear.pull_back(factors(weights), gradient)

    def imbalance(self, weights):
        return deep_linear.imbalance(factors(weights))

    def noises(self, data, temperature, weights, share=1.0):
        return deep_linear.noises(data, temperature, factors(weights), share)
'''
DESCEND = """
import warnings
import numpy as np, pytest, saddlescope as sc
from saddlescope.simulation.estimate import size
warnings.simplefilter("error")
teacher, sigma = np.diag([2.0, 1.5, 0.7]), np.array([[1.5, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 0.8]])
problem = sc.Problem(sc.Residual((3, 3, 3)), sc.GaussianData(teacher, sigma), sc.init.Gaussian(scale=0.2))
assert sc.Problem.from_toml(problem.to_toml()) == problem
plan = sc.Plan(steps=10, trajectories=2, saves=2, keep="weights")
for method in (sc.SGD(0.02, 4), sc.Langevin(0.02, 4, "isotropic", order=2), sc.GradientFlow(0.02)):
    sc.simulate(problem, method, plan, progress=False)
white = sc.Problem(problem.network, sc.GaussianData(teacher, label_noise=0.3), problem.init)
sc.simulate(white, sc.SGD(0.02, 4), plan, progress=False)
sc.simulate(white, sc.GD(0.6), sc.Plan(steps=2), progress=False)  # beyond the edge of a deep linear network
assert size(white, sc.GD(0.02), plan) == size(white, sc.GD(0.02), plan, "reference")
run = sc.simulate(problem, sc.GD(lr=0.02), plan, out="run.zarr", progress=False)
assert sc.load("run.zarr").attrs["engine"] == "reference" and "saxe2013" in sc.cite(run)

def loss(weights):
    error = (np.eye(3) + weights[1]) @ (np.eye(3) + weights[0]) - teacher
    return 0.5 * np.trace(error @ sigma @ error.T)

weights = np.stack([run.W1[0, 0], run.W2[0, 0]])
steps = 1e-5 * np.eye(18).reshape(18, 2, 3, 3)
for _ in range(10):
    slopes = [(loss(weights + step) - loss(weights - step)) / 2e-5 for step in steps]
    weights = weights - 0.02 * np.reshape(slopes, (2, 3, 3))
np.testing.assert_allclose(np.stack([run.W1[0, -1], run.W2[0, -1]]), weights, atol=1e-9)
np.testing.assert_allclose(run.excess_loss[0, -1], loss(weights), atol=1e-9)
with pytest.raises(ValueError, match='"native" has no kernel of a Residual network; use engine="reference"$'):
    sc.simulate(problem, sc.GD(lr=0.02), plan, engine="native")
with pytest.raises(ValueError, match="modes of a Residual network have no closed SDE"):
    sc.theory.mode_sde(white, sc.GD(lr=0.02), 0)
"""


def test_add_a_network(copy):
    """One module, and its name in two lists: without a kernel it runs on the reference engine, without false advice."""
    copy.add("networks/residual.py", RESIDUAL)
    home = "networks/__init__.py"
    copy.insert(home, "Network = ", "from saddlescope.networks.residual import Residual")
    copy.replace(home, "Network = DeepLinear | Diagonal", "Network = DeepLinear | Diagonal | Residual")
    copy.insert("__init__.py", '    "cite": "runs.cite"', '    "Residual": "networks",')
    (copy.folder / "check.py").write_text(DESCEND)
    done = copy.run("import runpy; runpy.run_path('check.py')")
    assert done.returncode == 0, done.stderr
    assert copy.changed == {"networks/residual.py", home, "__init__.py"}


ROOT = Path(__file__).resolve().parents[2]
HOMES = (ROOT, ROOT / "src" / "saddlescope", ROOT / "cpp")


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/decisions.md"])
def test_every_file_that_is_named_exists(document):
    named = re.findall(r"`((?:[\w.-]+/)*[\w.-]+(?:/|\.(?:py|hpp|cpp|md)))`", (ROOT / document).read_text())
    files = [name for name in named if not re.search(r"NAME|PAPER", name)]
    assert len(files) > 5
    folders = {
        home / name for home in HOMES for name in ("", "engines", "engines/jax", "monitor", "tests", "step", "simd")
    }
    missing = [name for name in files if not any((folder / name).exists() for folder in folders)]
    assert not missing


def test_the_import_order_is_the_one_that_is_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == "imports go down")
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Import order")[1].split("\n## ")[0]
    assert re.findall(r"^    (\S.*)$", section, re.MULTILINE) == [layer for layer in layers if layer != "__main__"]
