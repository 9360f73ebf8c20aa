"""What importing the package loads, and that every public name is found."""

import importlib.util
import subprocess
import sys

import pytest

import saddlescope as sc

HEAVY = ("numpy", "scipy", "xarray", "pandas", "zarr", "matplotlib", "pydantic", "rich", "typer", "jax", "torch")


def absent_after(code, names):
    """Those of the modules that this code does not import, in a fresh interpreter."""
    listing = f"{code}\nimport sys\nprint(*(name for name in {list(names)!r} if name not in sys.modules))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_package_alone_imports_nothing():
    assert absent_after("import saddlescope", HEAVY) == list(HEAVY)


RUN = """
import saddlescope as sc
problem = sc.Problem(sc.DeepLinear((2, 3, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 1.0]]), sc.init.Gaussian(scale=0.1))
run = sc.simulate(problem, sc.SGD(lr=1e-2, batch_size=4), sc.Plan(steps=10))
sc.theory.mode_sde(problem, sc.SGD(lr=1e-2, batch_size=4), 0).passage(0.1, 1.0)
"""


def test_a_run_in_memory_needs_neither_figures_nor_all_of_scipy():
    unused = ["scipy.stats", "matplotlib", "matplotlib.pyplot", "typer", "jax", "torch"]
    assert absent_after(RUN, unused) == unused


@pytest.mark.parametrize("name", ["simulate", "compare", "cite"])
@pytest.mark.parametrize(
    "code",
    [
        "from saddlescope import {0} as found; import saddlescope as sc; assert sc.{0} is found",
        "import saddlescope.cli, saddlescope as sc; sc.{0}",
        "from saddlescope import *; import saddlescope as sc; assert {0} is sc.{0}",
    ],
)
def test_a_function_is_never_hidden_by_its_module(name, code):
    check = f"{code.format(name)}\nassert sc.{name}.__name__ == {name!r} and callable(sc.{name})"
    subprocess.run([sys.executable, "-c", check], check=True)


MODULES = {"convert", "init", "labels", "monitor", "observe", "plots", "schedules", "theory"}


@pytest.mark.parametrize("name", sorted(set(sc.__all__) - MODULES))
def test_no_module_has_the_name_of_a_function_or_class(name):
    """Importing such a module would replace the public name."""
    assert importlib.util.find_spec(f"saddlescope.{name}") is None


def test_every_name_is_there():
    assert set(sc.__all__) <= set(dir(sc))
    for name in sc.__all__:
        assert getattr(sc, name) is getattr(sc, name)
    assert sc.plots is importlib.import_module("saddlescope.plots")  # modules are found too
    with pytest.raises(AttributeError, match="module 'saddlescope' has no attribute 'Lion'"):
        _ = sc.Lion


WITHOUT_LOCKS = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None  # as on Windows
{run}
import saddlescope.cli, saddlescope.plots
try:
    sc.simulate(problem, sc.SGD(lr=1e-2, batch_size=4), sc.Plan(steps=10), out="run.zarr")
except OSError as error:
    assert "out cannot be written" in str(error), error
else:
    raise AssertionError("a store without locks")
"""


def test_a_system_without_file_locks_runs_in_memory_and_refuses_stores(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT_LOCKS.format(run=RUN)], check=True, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
