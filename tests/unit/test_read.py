"""Problem, method and plan read from run files and stores."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.runfile import run_to_toml
from support import PROBLEMS

RUN = PROBLEMS["wide"], sc.SGD(lr=0.05, batch_size=16), sc.Plan(steps=60, trajectories=3, saves=3)


def test_a_file_and_a_store_give_the_same_run(tmp_path):
    (tmp_path / "run.toml").write_text("\ufeff" + run_to_toml(*RUN), encoding="utf-8")
    sc.simulate(*RUN, out=tmp_path / "run.zarr")
    assert sc.read(tmp_path / "run.toml") == sc.read(str(tmp_path / "run.zarr")) == RUN


def test_paths_of_data_are_relative_to_the_file(tmp_path):
    np.savez(tmp_path / "data.npz", X=[[1.0], [2.0]], Y=[[1.0], [3.0]])
    (tmp_path / "run.toml").write_text(
        'network = {type = "DeepLinear", widths = [1, 1]}\ndata = {type = "Dataset", path = "data.npz"}\n'
        'init = {type = "Gaussian", scale = 0.1}\nmethod = {type = "GD", lr = 0.1}\nplan = {steps = 3}\n'
    )
    assert sc.read(tmp_path / "run.toml")[0].data.samples == 2


def test_large_arrays_come_from_the_store(tmp_path):
    data = sc.GaussianData(np.random.default_rng(0).standard_normal((40, 40)))
    problem = sc.Problem(sc.DeepLinear((40, 2, 40)), data, sc.init.Gaussian(scale=0.1))
    run = problem, sc.GD(1e-3), sc.Plan(steps=2, saves=1)
    sc.simulate(*run, out=tmp_path / "run.zarr")
    assert sc.read(tmp_path / "run.zarr") == run


def test_a_store_that_continues_another_method_warns(tmp_path):
    first = sc.simulate(*RUN)
    sc.simulate(first, sc.GD(lr=0.05), sc.Plan(steps=10, trajectories=3), out=tmp_path / "run.zarr")
    with pytest.warns(UserWarning, match="continues 1 earlier run of another method"):
        assert sc.read(tmp_path / "run.zarr")[1] == sc.GD(lr=0.05)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00\xff\xfe", "is not text; give a run file"),
        (b"steps = ", "run file .*: this is not valid TOML"),
        (b"[network]\n", "the table .data. is missing"),
        (b"x1,y1\n1,2\n", "this is not valid TOML"),
        (run_to_toml(*RUN).replace("lr = 0.05", "lr = -1").encode(), "run file .*: .method. SGD: lr must be"),
        (run_to_toml(*RUN).replace("batch_size = 16", "").encode(), "run file .*: .method. SGD needs .*batch_size"),
    ],
)
def test_files_with_errors(tmp_path, content, words):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        sc.read(tmp_path / "run.toml")
    assert "\n" not in str(caught.value)


def test_places_that_are_no_run(tmp_path):
    with pytest.raises(ValueError, match="is not a run"):
        sc.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist; give a run file"):
        sc.read(tmp_path / "run.toml")
    for wrong in (7, None, b"run.toml", "s3://bucket/run.zarr", ""):
        with pytest.raises((TypeError, ValueError), match="path must be"):
            sc.read(wrong)


def test_a_damaged_store_is_noticed(tmp_path):
    sc.simulate(*RUN, out=tmp_path / "run.zarr")
    (tmp_path / "run.zarr" / "checkpoint" / "c" / "0").unlink()
    with pytest.raises(ValueError, match="damaged: its checkpoint is missing"):
        sc.read(tmp_path / "run.zarr")
