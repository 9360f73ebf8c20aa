"""The dataset of a watched training: every number at its place, padding, flags, attributes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from made_records import COVERAGE, record, records

from saddlescope.monitor.coverage import Coverage
from saddlescope.monitor.packed import Packed
from saddlescope.monitor.record import Record
from saddlescope.monitor.results import to_dataset
from saddlescope.monitor.variables import COORDINATES, MEANINGS, VARIABLES, Status


def test_every_number_is_at_its_place():
    """Against one label at a time, over vectors of unequal length and names that come and go."""
    made = [
        record(0),
        record(7, names=("fc2.weight",), modes=2, heads=3),
        record(50, names=("other", "fc1.weight", "third"), modes=6),
    ]
    dataset = to_dataset(made)
    assert dataset.sizes["mode"] == 6 and dataset.sizes["head"] == 3
    seen = dict.fromkeys(dataset, 0)
    for row, one in enumerate(made):
        for name, by_key in one.values.items():
            for key, tensor in by_key.items():
                found = dataset[name].isel(step=row)
                found = found.sel({found.dims[0]: key}) if key else found
                expected = np.full(found.shape, np.nan)
                expected[... if tensor.dim() == 0 else slice(tensor.numel())] = tensor.numpy()
                np.testing.assert_array_equal(found, expected)
                seen[name] += tensor.numel()
    for name, count in seen.items():
        if name != "status":
            assert int(dataset[name].notnull().sum()) == count, name


def test_dims_units_and_reading_of_every_variable():
    dataset = to_dataset([record(0, heads=2)])
    assert set(VARIABLES) - set(dataset) == {"log_det", "log_det_predicted"}
    for name, variable in dataset.items():
        assert variable.dims == VARIABLES[name].dims
        assert variable.dtype == (np.int64 if name == "status" else np.float64)
    for name, one in VARIABLES.items():
        assert one.dims[0] == "step" and set(one.dims) <= set(COORDINATES)
        assert one.long_name and one.definition, name
        assert one.reads_as.endswith("."), name
        assert one.attrs["reads_as"] == one.reads_as
    assert all(axis.attrs["long_name"] for axis in dataset.coords.values())


def test_coordinates_along_step():
    dataset = to_dataset([record(0, lr=None), record(2, batch=16, lr=0.25)])
    np.testing.assert_array_equal(dataset["step"], [0, 2])
    np.testing.assert_array_equal(dataset["batch_size"], [32, 16])
    np.testing.assert_array_equal(dataset["lr"], [np.nan, 0.25])


def test_status_holds_flags_and_marks_what_is_missing():
    first = Record(0, 4, 0.1, {"status": {"a": torch.tensor(Status.CHECK_FAILED | Status.OTHER_SHAPE)}})
    second = Record(1, 4, 0.1, {"status": {"b": torch.tensor(0)}})
    status = to_dataset([first, second])["status"]
    np.testing.assert_array_equal(status, [[65, Status.NOT_RECORDED], [Status.NOT_RECORDED, 0]])
    words = dict(zip(status.attrs["flag_meanings"].split(), status.attrs["flag_masks"], strict=True))
    assert words["check_failed"] == 1 and words["other_shape"] == 64
    assert set(MEANINGS) == set(Status)


def test_numbers_of_any_type_keep_their_value():
    types = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool)
    ones = [torch.tensor(1, dtype=dtype) for dtype in types]
    ones[0].requires_grad_()
    made = [Record(i, 1, None, {"trace": {"a": one}}) for i, one in enumerate(ones)]
    np.testing.assert_array_equal(to_dataset(made)["trace"], np.ones((len(types), 1)))


def test_attributes():
    dataset = to_dataset(
        [record(0)], quantities=["modes", "noise"], schedule="log+50", loss_scale=8, coverage=COVERAGE, complete=False
    )
    attrs = dataset.attrs
    assert (attrs["quantities"], attrs["schedule"], attrs["complete"]) == ("modes, noise", "log+50", 0)
    assert (attrs["reduction"], attrs["loss_scale"]) == ("mean", 8.0)
    assert Coverage.from_text(attrs["coverage"]) == COVERAGE
    assert attrs["convention_temperature"] == "T = lr / batch_size"


@pytest.mark.parametrize("made", [[], [Record(3, 8, 0.1)], [Record(3, 8, None, {"trace": {}})]])
def test_empty_records(made):
    dataset = to_dataset(made)
    assert dataset.sizes["step"] == len(made)
    assert all(variable.isnull().all() for variable in dataset.values())


def test_records_keep_values_in_a_few_tensors():
    """The same values, each in a tensor of its kind that nothing else can change."""
    whole = torch.arange(6.0)
    given = {"trace": {"a": whole[1], "b": torch.tensor(2)}, "mode_strength": {"a": whole[2:5], "b": torch.empty(0)}}
    expected = {name: {key: value.clone() for key, value in by_key.items()} for name, by_key in given.items()}
    values = Record(0, 1, None, given).values
    whole.zero_()
    for name, by_key in expected.items():
        assert list(values[name]) == list(by_key)
        for key, value in by_key.items():
            torch.testing.assert_close(values[name][key], value, rtol=0, atol=0)
    assert len(values.tensors) == 3 and set(values) == set(given) and len(values) == 2
    made = [record(step) for step in range(3)]
    assert made[0].values.layout is made[2].values.layout
    with pytest.raises(ValueError, match="numbers or vectors, got a tensor of 2 dims"):
        Packed({"trace": {"a": torch.ones(2, 2)}})


def test_an_unknown_variable_is_an_error():
    with pytest.raises(ValueError, match="surprise"):
        to_dataset([Record(0, 1, None, {"surprise": {"a": torch.tensor(1.0)}})])


def test_a_dataset_can_be_netcdf(tmp_path):
    dataset = to_dataset(records(last=5, heads=2), coverage=COVERAGE)
    dataset.to_netcdf(tmp_path / "training.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "training.nc", engine="scipy") as read:
        np.testing.assert_array_equal(read["mode_variance"], dataset["mode_variance"])
        assert [str(name) for name in read["weight"].values] == list(dataset["weight"].values)


def test_coverage_shows_counts_and_reasons():
    text = repr(COVERAGE)
    assert (
        "2 of 5 parameters recorded" in text
        and "2 skipped       BatchNorm couples samples (bn.weight, bn.bias)" in text
    )
    assert "1 not recorded  its hook did not fire (out_proj.weight)" in text
    assert "<td" in COVERAGE._repr_html_() and "out_proj.weight" in COVERAGE._repr_html_()
    many = Coverage(tuple((f"layer.{i}", "skipped", "not supported") for i in range(1000)))
    assert "layer.2 and 997 more" in repr(many) and len(repr(many).splitlines()) == 2
    assert "nothing" in repr(Coverage())


def test_pairs_are_counted_apart_and_every_state_is_shown():
    pairs = [("a~b", "predicted", ""), ("b~c", "not predicted", "Adam"), ("c~d", "no pair", "the loss changes")]
    both = Coverage((*COVERAGE.rows, *pairs))
    assert both.headline == "2 of 5 parameters recorded; 1 of 3 pairs predicted"
    assert (both.parameters, both.pairs) == (COVERAGE.rows, tuple(pairs))
    shown = [line.split("  ")[1].strip() for line in repr(both).splitlines()[1:]]
    assert shown == ["2 watched", "1 not recorded", "2 skipped", "1 predicted", "1 not predicted", "1 no pair"]
    assert both.sentence.endswith("; 1 not predicted: Adam (b~c); 1 no pair: the loss changes (c~d)")
    assert "watched" not in both.sentence
    assert Coverage.from_text(both.text) == both
    assert Coverage(tuple(pairs)).headline == "1 of 3 pairs predicted"


def test_variables_and_coverage_do_without_torch():
    code = "import sys; sys.modules['torch'] = None; import saddlescope.monitor.variables, saddlescope.monitor.coverage"
    subprocess.run([sys.executable, "-c", code], check=True)
