"""Phase diagrams: cells where the coordinates are, boundaries over them, marked runs, wrong input."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from saddlescope.plots import phase_diagram

SIGMA, T = np.linspace(0.1, 2.0, 5), np.geomspace(0.01, 1.0, 4)
STATUS = np.ones((4, 5), np.int64)
STATUS[3, 4], STATUS[0, 0], STATUS[0, 1] = 2, 3, 0


def made(values, x=SIGMA, **more):
    dims = ("T", "sigma")
    values = xr.DataArray(values, {"T": T, "sigma": x}, dims)
    return xr.Dataset({"mass": values, "status": (dims, STATUS), **more})


def mesh(figure):
    return figure.axes[0].collections[0]


def test_cells_lie_around_their_coordinates_and_have_their_values():
    values = np.arange(20.0).reshape(4, 5)
    figure = phase_diagram(made(values), "mass")
    corners = mesh(figure).get_coordinates()
    x, y = corners[0, :, 0], corners[:, 0, 1]
    np.testing.assert_allclose((x[2:] + x[1:-1]) / 2, SIGMA[1:])
    assert x[0] == 0  # not half a cell below the first, since label noise is not negative
    np.testing.assert_allclose(np.sqrt(y[1:] * y[:-1]), T)  # edges in the geometric middle on a logarithmic axis
    np.testing.assert_array_equal(mesh(figure).get_array(), values)
    assert figure.axes[0].get_xscale() == "linear" and figure.axes[0].get_yscale() == "log"


def test_x_and_y_turn_the_plane():
    values = np.arange(20.0).reshape(4, 5)
    figure = phase_diagram(made(values), "mass", x="T", y="sigma")
    np.testing.assert_array_equal(mesh(figure).get_array(), values.T)
    assert figure.axes[0].get_xlabel() == "T"


def test_runs_without_a_value_are_hatched_and_nothing_else():
    values = np.ones((4, 5))
    values[STATUS != 1] = np.nan
    figure = phase_diagram(made(values), "mass")
    cells = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert sorted((patch.get_hatch(), round(patch.get_x() + patch.get_width() / 2, 6)) for patch in cells) == [
        ("////", SIGMA[4]),
        ("xxxx", round((0.0 + (SIGMA[0] + SIGMA[1]) / 2) / 2, 6)),
    ]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["diverged", "raised"]
    assert not phase_diagram(made(np.ones((4, 5))), "mass").axes[0].patches  # of those, some trajectories diverged


def test_boundaries_are_functions_or_points():
    points = np.array([0.5, 1.0]), np.array([0.1, 0.2])
    figure = phase_diagram(made(np.ones((4, 5))), "mass", boundaries={"T_c": lambda s: 2 / (2 + s**2), "two": points})
    assert len(figure.axes[0].lines) == 4  # each over a white one
    drawn = figure.axes[0].lines[1].get_xydata()
    np.testing.assert_allclose(drawn[:, 1], 2 / (2 + drawn[:, 0] ** 2))
    np.testing.assert_array_equal(figure.axes[0].lines[3].get_xydata(), np.transpose(points))


def test_boundaries_are_asked_for_no_negative_values():
    seen = []
    phase_diagram(made(np.ones((4, 5))), "mass", boundaries={"T_c": lambda s: seen.append(s.min()) or 2 / (2 + s**2)})
    assert min(seen) == 0


def test_colours_are_logarithmic_over_orders_of_magnitude():
    assert isinstance(mesh(phase_diagram(made(np.geomspace(1, 1e3, 20).reshape(4, 5)), "mass")).norm, LogNorm)
    assert type(mesh(phase_diagram(made(np.linspace(0, 1, 20).reshape(4, 5)), "mass")).norm) is Normalize
    assert phase_diagram(made(np.full((4, 5), np.nan)), "mass")


def test_text_along_an_axis_and_several_coordinates_of_one():
    sweep = made(np.ones((4, 5)), x=["(4, 4)", "(4, 8, 4)", "a", "b", "c"])
    figure = phase_diagram(sweep, "mass")
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["(4, 4)", "(4, 8, 4)", "a", "b", "c"]
    zipped = made(np.ones((4, 5))).drop_vars("sigma").assign_coords(lr=("sigma", SIGMA), batch=("sigma", SIGMA**2))
    assert phase_diagram(zipped, "mass", x="batch").axes[0].get_xlabel() == "batch"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "mas"}, "name must be a variable of the sweep, one of mass, status, got 'mas'.*mass"),
        ({"x": "sgma"}, "x must be a coordinate of the sweep, one of T, sigma, got 'sgma'.*sigma"),
        ({"x": "T", "y": "T"}, "x and y must lie along different axes"),
        ({"boundaries": {"T_c": lambda s: 1.0}}, "the boundary 'T_c' must give one y for each x"),
    ],
)
def test_wrong_input(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        phase_diagram(made(np.ones((4, 5))), **({"name": "mass"} | change))


def test_other_dims_must_be_selected():
    sweep = made(np.ones((4, 5)), loss=(("T", "sigma", "statistic"), np.ones((4, 5, 7))))
    with pytest.raises(ValueError, match=r"'loss' must have two dims .*statistic = 7; sweep.sel"):
        phase_diagram(sweep, "loss")
    with pytest.raises(ValueError, match=r"must have two dims .*sweep two axes"):
        phase_diagram(sweep.isel(T=0), "mass")
    with pytest.raises(TypeError, match="sweep must be a Dataset"):
        phase_diagram(sweep.mass, "mass")
