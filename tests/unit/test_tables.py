"""Data sets from tables: columns by name, standardised, labelled in runs."""

import numpy as np
import pandas as pd
import pytest
import tomli_w
import xarray as xr

import saddlescope as sc
from saddlescope import Dataset, DeepLinear, Plan, Problem, init
from saddlescope.runfile import run_from_toml, run_to_toml

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal([50, 25, 0], [9, 3, 1], (40, 3)), columns=["age", "bmi", "pressure"])
FRAME["sugar"] = 2 * FRAME.age - FRAME.bmi + RNG.normal(size=40)
FRAME["sex"] = "m"


def load(tmp_path, text, name="a.csv", encoding="utf-8", **how):
    (tmp_path / name).write_text(text, encoding=encoding)
    return Dataset.load(tmp_path / name, **how)


def test_columns_are_chosen_by_name(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv")  # with an index, whose column has no name, and one of text
    data = Dataset.load(tmp_path / "a.csv", 0.5, inputs=["bmi", "age"], targets="sugar")
    assert data == Dataset(FRAME[["bmi", "age"]], FRAME[["sugar"]], 0.5)
    assert (data.inputs, data.targets) == (("bmi", "age"), ("sugar",))
    FRAME.drop(columns="sex").to_csv(tmp_path / "b.csv")
    rest = Dataset.load(tmp_path / "b.csv", targets=["sugar", "age"])
    assert (rest.inputs, rest.targets) == (("bmi", "pressure"), ("sugar", "age"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "age;the bmi;y\r\n1;2;3\r\n4;5;7\r\n"),
        ("a.tsv", "age\tthe bmi\ty\n1\t2\t3\n\n4\t5\t7\n"),
        ("a.csv", '"age", "the  bmi" ,y\n"1",2.0,3e0\n4, 5 ,7\n , ,\n'),
        ("a.csv", '\ufeffage,"the\nbmi","y"\n1,2,3\n4,5,7'),
        ("a.CSV", 'age;"the bmi";y;"a, b, c, d"\n1;2;3;text\n4;5;7;\n'),
    ],
)
def test_tables_as_programs_write_them(tmp_path, name, text):
    data = load(tmp_path, text, name, inputs=["age", "the bmi"], targets=["y"])
    assert data == Dataset([[1, 2], [4, 5]], [[3], [7]], inputs=["age", "the bmi"], targets=["y"])


TABLE = "age,bmi,sex,y\n1,2,m,3\n4,5,f,6\n7,8,m,9\n"


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        (TABLE, {}, "has the columns 'age', 'bmi', 'sex', 'y'; choose columns by inputs=.* name inputs x1"),
        (TABLE, {"inputs": ["age"]}, "targets is missing"),
        (TABLE, {"targets": ["yy"]}, "has no column 'yy'; its columns are 'age', .*did you mean 'y'"),
        (TABLE, {"targets": ["y"], "inputs": ["agee"]}, "no column 'agee'.*did you mean 'age'"),
        (TABLE, {"targets": ["y"]}, "number in column 'sex', got 'm'; encode the column as"),
        (TABLE, {"targets": ["y"], "inputs": []}, "inputs must name at least one column"),
        (TABLE, {"targets": ["y"], "inputs": ["age", "age"]}, "inputs must be distinct, got 'age' twice"),
        (TABLE, {"targets": 3}, "targets must be names"),
        (TABLE, {"targets": [3]}, "targets must be names"),
        (TABLE, {"targets": b"y"}, "targets must be names"),
        (
            TABLE.replace("4,", ","),
            {"targets": ["y"], "inputs": ["age"]},
            r"row 2 \(line 3\) .* no value in column 'age'",
        ),
        (TABLE.replace("4,", "NA,").replace("7,", "?,"), {"targets": ["y"], "inputs": ["age"]}, "as 2 of 3 rows; fill"),
        (TABLE.replace("4,", ","), {"targets": ["y"], "inputs": ["age"]}, r"pandas.read_csv\(path, sep=…\).dropna\(\)"),
        (TABLE, {"targets": ["y"], "inputs": ["age", "y"]}, "no column in common, got 'y' in both"),
        (
            TABLE.replace("4,", "4 kg,"),
            {"targets": ["y"], "inputs": ["age"]},
            "row 2 .* in column 'age', got '4 kg'; cor",
        ),
        (TABLE.replace("4,", "inf,"), {"targets": ["y"], "inputs": ["age"]}, "row 2 .* finite number in column 'age'"),
        (
            TABLE.replace("4,", '"4,5",'),
            {"targets": ["y"], "inputs": ["age"]},
            "got '4,5'; write decimals with a point",
        ),
        (TABLE.replace("4,", ""), {"targets": ["y"], "inputs": ["age"]}, r"row 2 \(line 3\) .* must hold 4 entries"),
        ("age,age,y\n1,2,3\n", {"targets": ["y"]}, "has 2 columns 'age'; rename"),
        ("y\n1\n", {"targets": ["y"]}, "no columns beside the targets"),
        ("1,2\n3,4\n", {}, "has no header"),
        ("x1,y1\n", {"targets": ["y1"]}, "has no samples"),
        ("", {"targets": ["y1"]}, "no columns beside|no column 'y1'"),
        (TABLE, {"targets": ["y"], "inputs": ["age"], "standardise": 1}, "standardise must be True or False"),
        (TABLE, {"targets": ["y"], "inputs": ["age"], "whiten": "yes"}, "whiten must be True or False"),
        (TABLE, {"targets": ["y"], "inputs": ["age"], "seed": 1}, "seed is for a test split"),
        (TABLE, {"targets": ["y"], "inputs": ["age"], "test": 3}, "less than the 3 samples"),
        ("a,b,y\n1,2,3\n1,3,4\n", {"targets": "y", "standardise": True}, "got 1 in all 2 training .* 'a'; leave that"),
    ],
)
def test_tables_with_errors(tmp_path, text, how, words):
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        load(tmp_path, text, **how)
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding(tmp_path):
    with pytest.raises(ValueError, match="is not a CSV in UTF-8; save it"):
        load(tmp_path, TABLE, encoding="utf-16", targets=["y"])


def test_an_archive_with_names(tmp_path):
    x, y = FRAME[["age", "bmi"]].to_numpy(), FRAME[["sugar"]].to_numpy()
    np.savez(tmp_path / "a.npz", X=x, Y=y, inputs=["age", "bmi"], targets=["sugar"])
    assert Dataset.load(tmp_path / "a.npz") == Dataset(x, y, inputs=["age", "bmi"], targets=["sugar"])
    chosen = Dataset.load(tmp_path / "a.npz", inputs=["bmi", "sugar"], targets="age")
    assert chosen == Dataset(FRAME[["bmi", "sugar"]], FRAME[["age"]])
    np.savez(tmp_path / "b.npz", X=x, Y=y)
    with pytest.raises(ValueError, match="must name the columns of its matrices X and Y; save it with"):
        Dataset.load(tmp_path / "b.npz", targets="sugar")
    np.savez(tmp_path / "c.npz", X=x, Y=y, inputs=["age"])
    with pytest.raises(ValueError, match="inputs must name the 2 columns of X, got 1"):
        Dataset.load(tmp_path / "c.npz")


def test_tables_in_memory():
    x, y = FRAME[["age", "bmi"]], FRAME["sugar"]
    plain = Dataset(x.to_numpy(), y.to_numpy()[:, None], inputs=["age", "bmi"], targets=["sugar"])
    array = xr.DataArray(x.to_numpy(), dims=("i", "feature"), coords={"feature": ["age", "bmi"]})
    assert Dataset(x, y) == plain == Dataset(array, xr.DataArray(y.to_numpy(), dims="i", name="sugar"))
    assert Dataset(pd.DataFrame(x.to_numpy()), y).inputs is None
    assert Dataset(x.to_numpy(), y, inputs=iter(["age", "bmi"])) == plain
    holed = x.copy()
    holed.loc[7, "age"] = np.nan
    for wrong, words in (
        (lambda: Dataset(FRAME, y), "column 'sex' of X"),
        (lambda: Dataset(holed, y), "column 'age' of X must be finite, got nan in row 7"),
        (lambda: Dataset(x, y, X_test=FRAME[["bmi", "age"]], Y_test=y), "X_test must have the columns"),
        (lambda: Dataset(x, y, inputs=["a", "b"]), "X must have the columns"),
        (lambda: Dataset(x, y, inputs=["age", " "]), "inputs must be printable"),
        (lambda: Dataset(x, y.to_numpy()), "Y must be a matrix"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            wrong()


def test_standardised_by_the_training_samples():
    data = Dataset(FRAME[["age", "bmi"]], FRAME["sugar"], 0.3).split(10, seed=1)
    own = data.standardise()
    for name in ("X", "Y"):
        train, test = getattr(data, name), getattr(data, f"{name}_test")
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        np.testing.assert_allclose(getattr(own, name), (train - mean) / deviation, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(getattr(own, f"{name}_test"), (test - mean) / deviation, rtol=1e-12, atol=1e-12)
        assert abs(getattr(own, f"{name}_test").mean()) > 1e-3, "test samples are not centred by themselves"
    assert (own.label_noise, own.inputs, own.targets) == (0.3, data.inputs, data.targets)
    np.testing.assert_allclose(np.diag(own.sigma), 1, rtol=1e-12)
    np.testing.assert_allclose(own.standardise().X, own.X, atol=1e-14)


def test_standardised_far_from_zero_and_at_any_size():
    x = np.linspace(0, 1, 1000)[:, None]
    for offset, size in ((1e9, 1.0), (0.0, 1e140), (0.0, 1e-140), (-1e6, 1e-3)):
        own = Dataset(offset + size * x, x).standardise().X
        np.testing.assert_allclose([own.mean(), own.var()], [0, 1], atol=1e-12)
    with pytest.raises(ValueError, match=r"got 1e\+09 in all 1000 training samples of column 0 of X"):
        Dataset(np.full((1000, 1), 1e9 + 0.1), x).standardise()


def test_whitened_by_the_training_samples():
    data = Dataset(FRAME[["age", "bmi"]], FRAME["sugar"], 0.3).split(10, seed=1)
    own = data.whiten()
    np.testing.assert_allclose(own.sigma, np.eye(2), atol=1e-13)
    values, vectors = np.linalg.eigh(data.sigma)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(own.X, data.X @ root, rtol=1e-9)
    np.testing.assert_allclose(own.X_test, data.X_test @ root, rtol=1e-9)
    assert (own.inputs, own.label_noise, own.Y.tolist()) == (data.inputs, 0.3, data.Y.tolist())
    np.testing.assert_allclose(own.least_loss, data.least_loss, rtol=1e-12)  # the same best fit
    np.testing.assert_allclose(own.whiten().X, own.X, atol=1e-12)
    assert own.diagonal_in_modes and not data.diagonal_in_modes


def test_whitened_where_inputs_repeat_others_or_have_other_units():
    x = np.random.default_rng(0).normal(size=(50, 2))
    twice = np.column_stack([x[:, 0] * 1e8, x[:, 1] * 1e-8, x[:, 0] * 1e8])
    with pytest.warns(UserWarning, match="rank 2 of 3"):
        own = Dataset(twice, x).standardise().whiten()
        assert own.diagonal_in_modes
    np.testing.assert_allclose(np.linalg.eigvalsh(own.sigma), [0, 1, 1], atol=1e-12)


@pytest.mark.filterwarnings("ignore:the inputs X have rank")
@pytest.mark.parametrize(("outputs", "rank"), [(1, 1), (2, 2), (4, 2), (8, 3)])
def test_modes_of_inputs_that_repeat_others_decouple_once_whitened(outputs, rank):
    """Directions without a strength are chosen so that the covariance is diagonal in them."""
    rng = np.random.default_rng(outputs)
    base = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5))
    x = np.column_stack([base, base[:, 0], base[:, 1] + base[:, 2]])
    y = base @ rng.normal(size=(5, rank)) @ rng.normal(size=(rank, outputs))
    given = Dataset(x, y)
    own = given.whiten()
    assert own.diagonal_in_modes and not given.diagonal_in_modes
    np.testing.assert_allclose(own.modes.left * own.modes.strengths @ own.modes.right.T, own.teacher, atol=1e-11)
    np.testing.assert_allclose(own.bases[1].T @ own.bases[1], np.eye(7), atol=1e-12)
    np.testing.assert_array_equal(own.bases[1][:, : len(own.modes.strengths)], own.modes.right)
    assert sc.GaussianData(own.teacher, covariance=own.sigma).diagonal_in_modes


def test_a_table_of_a_run_file(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv")
    keys = {"inputs": ["bmi", "age"], "targets": ["sugar"], "standardise": True, "whiten": True, "test": 10, "seed": 3}
    data = Dataset.load(tmp_path / "a.csv", 0.5, **keys)
    assert data == Dataset(FRAME[["bmi", "age"]], FRAME["sugar"], 0.5).split(10, seed=3).standardise().whiten()
    tables = {
        "network": {"type": "DeepLinear", "widths": [2, 1]},
        "data": {"type": "Dataset", "path": "a.csv", "label_noise": 0.5, **keys},
        "init": {"type": "Gaussian", "scale": 0.1},
        "method": {"type": "GD", "lr": 0.1},
        "plan": {"steps": 3},
    }
    run = run_from_toml(tomli_w.dumps(tables), tmp_path)
    assert run[0].data == data
    assert run_from_toml(run_to_toml(*run)) == run
    tables["data"]["targets"] = ["sugr"]
    with pytest.raises(ValueError, match=r"\[data\] .* has no column 'sugr'.*did you mean 'sugar'"):
        run_from_toml(tomli_w.dumps(tables), tmp_path)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_weights_are_labelled(tmp_path, engine):
    data = Dataset(FRAME[["age", "bmi"]], FRAME["sugar"]).standardise()
    run = (
        Problem(DeepLinear((2, 3, 1)), data, init.Gaussian(scale=0.1)),
        sc.GD(0.01),
        Plan(steps=4, saves=2, keep="weights"),
    )
    sc.simulate(*run, engine=engine, out=tmp_path / "run.zarr")
    stored, memory = sc.load(tmp_path / "run.zarr"), sc.simulate(*run, engine=engine)
    assert sc.read(tmp_path / "run.zarr") == run
    for found in (stored, memory):
        assert found.unit0.values.tolist() == ["age", "bmi"] and found.unit2.values.tolist() == ["sugar"]
        np.testing.assert_array_equal(found.W1.sel(unit0="bmi"), memory.W1.isel(unit0=1))
        assert "unit1" not in found.coords
    assert xr.open_zarr(tmp_path / "run.zarr").unit0.values.tolist() == ["age", "bmi"]
    longer = Plan(steps=8, saves=2, keep="weights")
    turned = sc.simulate(stored.isel(unit0=[1, 0]), plan=longer, engine=engine)
    np.testing.assert_array_equal(turned.W1, sc.simulate(memory, plan=longer, engine=engine).W1)
    sc.simulate(*run, engine=engine, out=tmp_path / "run.zarr", overwrite=True)
    plain = sc.simulate(run[0], run[1], Plan(steps=4), engine=engine)
    assert "unit0" not in plain.coords


def test_loadings():
    data = Dataset(FRAME[["age", "bmi"]], FRAME["sugar"]).standardise()
    found = data.loadings
    rebuilt = xr.dot(found.output_loading * found.target, found.input_loading, dim="mode")
    np.testing.assert_allclose(rebuilt.transpose("output", "input"), data.teacher, atol=1e-12)
    assert float(found.input_loading.sel(mode=0, input="age")) > abs(
        float(found.input_loading.sel(mode=0, input="bmi"))
    )
    found.input_loading[:] = 0
    assert data.modes.right.any()
    plain = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]]).loadings
    assert plain.input.values.tolist() == [0, 1] and plain.target.values.tolist() == [2.0, 1.0]


def test_a_column_cannot_be_input_and_target():
    for make in (
        lambda: Dataset(FRAME[["age", "bmi"]], FRAME[["bmi"]]),
        lambda: Dataset([[1.0]], [[2.0]], inputs="bmi", targets=["bmi"]),
    ):
        with pytest.raises(ValueError, match="no column in common, got 'bmi' in both"):
            make()


def test_one_table_in_place_of_inputs_and_targets():
    for make, what in (
        (lambda: Dataset(FRAME), r"needs Y.*\('age', .*, 'sex'\), such as Dataset\(table\[\['age', 'bmi'\]\], table"),
        (
            lambda: Dataset(FRAME, inputs="bmi", targets=["sugar"]),
            r"needs Y.*table\[\['bmi'\]\], table\[\['sugar'\]\]",
        ),
        (lambda: Dataset.load(FRAME, inputs=["bmi"], targets="sugar"), r"got a table; .*table\[\['sugar'\]\]\)"),
        (lambda: Dataset.load(FRAME, inputs=["bmi"], targets=3), "targets must be names"),
    ):
        with pytest.raises(TypeError, match=what) as caught:
            make()
        assert "\n" not in str(caught.value)
