"""Examples: given samples of any shape, their labels, and how they are kept, written and split."""

import copy
import pickle
import tomllib

import numpy as np
import pytest

import saddlescope as sc
from saddlescope import _zarr
from saddlescope._parts import to_table
from saddlescope._tables import from_table, text_of
from saddlescope.labels import KINDS, Flips, Fresh, Smoothing

RNG = np.random.default_rng(1)
IMAGES, CLASSES = RNG.standard_normal((20, 3, 4, 4)).astype(np.float32), RNG.integers(0, 5, 20)
PROBABILITIES = RNG.dirichlet(np.ones(3), 7)


def test_kinds_and_shapes_are_kept():
    data = sc.Examples(IMAGES, CLASSES.astype(np.int8))
    assert data.X.dtype == np.float64 and data.X.shape == (20, 3, 4, 4) and np.array_equal(data.X, IMAGES)
    assert data.Y.dtype == np.int64 and np.array_equal(data.Y, CLASSES) and data.samples == 20 and data.classes == 5
    tokens = sc.Examples(CLASSES.reshape(4, 5), CLASSES.reshape(4, 5))
    assert tokens.X.dtype == tokens.Y.dtype == np.int64
    assert sc.Examples([0.5, 1.5], [[1.0], [2.0]]).X.shape == (2,)
    for array in (data.X, data.Y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    IMAGES[0, 0, 0, 0] += 1
    assert data.X[0, 0, 0, 0] != IMAGES[0, 0, 0, 0]
    assert (data.inputs, data.targets, data.gaussian, data.moments_alone, data.test_samples) == (None, None, 0, 0, None)


X, Y = [[0.5], [1.5]], [[1.0], [2.0]]
WRONG = {
    "X must hold samples .* got shape": {"X": np.zeros((0, 3)), "Y": []},
    "X must hold samples": {"X": 3.0, "Y": [1.0]},
    "X must be finite": {"X": [[np.nan], [1.0]], "Y": Y},
    "Y must be finite": {"X": X, "Y": [[np.inf], [1.0]]},
    "X and Y must have one entry for each sample, got 2 and 3": {"X": X, "Y": [1, 2, 3]},
    "X must be an array of numbers, booleans": {"X": [True, False], "Y": Y},
    "Y must be an array of numbers, objects": {"X": X, "Y": np.array([object(), 1], object)},
    "Y must be an array of numbers, text": {"X": X, "Y": ["cat", "dog"]},
    "Y must be classes 0 … K − 1 .* got -1": {"X": X, "Y": [-1, 0]},
    "X must be an array of numbers, nested lists of equal length": {"X": [[1.0], [1.0, 2.0]], "Y": Y},
    "label_noise is Gaussian noise on float labels": {"X": X, "Y": [0, 1], "label_noise": 0.1},
    "label_noise must be greater than or equal to 0": {"X": X, "Y": Y, "label_noise": -1},
    "label_noise and labels.Fresh must not both": {
        "X": X,
        "Y": [[0.5, 0.5]] * 2,
        "label_noise": 0.1,
        "labels": Fresh(),
    },
    "labels.Fresh needs rows of Y that are probabilities": {"X": X, "Y": [[0.5, 0.6], [0.5, 0.5]], "labels": Fresh()},
    "labels.Flips needs rows .* got ..1.5, -0.5": {"X": X, "Y": [[1.5, -0.5], [0.5, 0.5]], "labels": Flips(0.1)},
    "labels.Smoothing needs Y of classes": {"X": X, "Y": [[0, 1], [1, 0]], "labels": Smoothing(0.1)},
    "labels.Fresh draws classes from probabilities": {"X": X, "Y": [0, 1], "labels": Fresh()},
    "labels.Flips needs at least two classes, got 1": {"X": X, "Y": [0, 0], "labels": Flips(0.1)},
    "labels must be a Fresh or Flips or Smoothing, got": {"X": X, "Y": [0, 1], "labels": {"p": 0.1}},
    "X_test and Y_test must be given together": {"X": X, "Y": Y, "X_test": X},
    "Y_test must hold samples of the shape and kind": {"X": X, "Y": [0, 1], "X_test": X, "Y_test": Y},
    "X_test must hold samples of the shape and kind": {"X": X, "Y": Y, "X_test": [[1.0, 2.0]], "Y_test": [[1.0]]},
    "X_test and Y_test must have one entry": {"X": X, "Y": Y, "X_test": X, "Y_test": [[1.0]]},
    r"has no argument 'noise'.* \(did you mean 'label_noise'\?\)": {"X": X, "Y": Y, "noise": 1.0},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_input_is_refused_in_one_sentence(sentence):
    with pytest.raises((TypeError, ValueError), match=sentence) as error:
        sc.Examples(**WRONG[sentence])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    kind = any(word in sentence for word in ("array of", "no argument", "labels must"))
    assert isinstance(error.value, TypeError if kind else ValueError)


@pytest.mark.parametrize(
    "make", [lambda: Flips(0.0), lambda: Flips(1.5), lambda: Smoothing(-0.1), lambda: Smoothing("1")]
)
def test_probabilities_are_checked(make):
    with pytest.raises((TypeError, ValueError), match="must"):
        make()


def test_mean_labels_are_those_of_the_drawn_ones():
    flips = sc.Examples(X, [0, 2], labels=Flips(0.3))
    assert np.allclose(flips.targets_mean, [[0.7, 0.15, 0.15], [0.15, 0.15, 0.7]], rtol=0, atol=1e-15)
    smooth = sc.Examples(X, [0, 2], labels=Smoothing(0.3))
    assert np.allclose(smooth.targets_mean, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], rtol=0, atol=1e-15)
    fresh = sc.Examples(np.zeros((7, 2)), PROBABILITIES, labels=Fresh())
    assert np.allclose(fresh.targets_mean, PROBABILITIES, rtol=1e-15) and fresh.classes == 3
    for data in (flips, smooth, fresh):
        assert np.allclose(data.targets_mean.sum(axis=1), 1, rtol=1e-15)
    drawn = sc.Examples(np.zeros((7, 2)), PROBABILITIES, labels=Flips(0.3)).targets_mean
    assert np.allclose(drawn, 0.7 * PROBABILITIES + 0.15 * (1 - PROBABILITIES), rtol=1e-14)
    plain = sc.Examples(X, [0, 2])
    assert plain.targets_mean is plain.Y


def test_equal_when_all_numbers_and_kinds_are():
    data = sc.Examples(IMAGES, CLASSES, labels=Flips(0.1))
    for other in (sc.Examples(IMAGES.copy(), CLASSES, labels=Flips(0.1)), pickle.loads(pickle.dumps(data))):
        assert other == data and hash(other) == hash(data)
    assert not copy.deepcopy(data).X.flags.writeable
    changed = IMAGES.copy()
    changed[-1, -1, -1, -1] = np.nextafter(changed[-1, -1, -1, -1], np.float32(9))
    assert data != sc.Examples(changed, CLASSES, labels=Flips(0.1)) and data != sc.Examples(IMAGES, CLASSES)
    assert sc.Examples(X, [0, 1]) != sc.Examples(X, [0.0, 1.0]) != sc.Dataset(X, Y)


@pytest.mark.parametrize("labels", [None, Fresh(), Flips(0.25), Smoothing(0.1)])
def test_a_table_repeats_it(labels):
    y = PROBABILITIES if isinstance(labels, Fresh) else CLASSES[:7]
    data = sc.Examples(IMAGES[:7], y, labels=labels).split(2)
    table = to_table(data)
    if labels is not None:
        table["labels"] = from_table("data.labels", table["labels"], KINDS)
    again = from_table("data", table, (sc.Examples,))
    assert again == data and again.Y.dtype == data.Y.dtype


def test_shown_in_few_lines():
    data = sc.Examples(IMAGES, CLASSES, labels=Flips(0.1)).split(4)
    assert repr(data) == ("Examples(samples=16, held_out=4, x=3 × 4 × 4 floats, y=5 classes, labels=Flips(p=0.1))")
    assert (
        repr(sc.Examples([1, 2], [0.5, 1.5], 0.5))
        == "Examples(samples=2, x=a whole number, y=a float, label_noise=0.5)"
    )


def test_split_is_that_of_a_dataset():
    data, rows = sc.Examples(np.arange(20.0)[:, None], CLASSES), sc.Dataset(np.arange(20.0)[:, None], np.ones((20, 1)))
    ours, theirs = data.split(6, seed=3), rows.split(6, seed=3)
    assert np.array_equal(ours.X, theirs.X) and np.array_equal(ours.X_test, theirs.X_test)
    assert np.array_equal(ours.Y, CLASSES[ours.X[:, 0].astype(int)]) and ours.classes == data.classes == 5
    assert ours.Y_test.dtype == np.int64 and ours.test_samples[0] is ours.X_test
    for wrong in (lambda: data.split(20), lambda: data.split(0), lambda: ours.split(2), lambda: data.split(2, seed=-1)):
        with pytest.raises(ValueError, match=r"test|split|seed"):
            wrong()


@pytest.mark.parametrize("array", [np.arange(24).reshape(2, 3, 4), np.arange(24.0).reshape(2, 3, 2, 2)])
def test_arrays_of_any_shape_and_kind_are_stored(tmp_path, array):
    layout = _zarr.of(array, tuple(f"dim_{axis}" for axis in range(array.ndim)), {})
    _zarr.lay_out(tmp_path, {}, {"data_X": layout})
    _zarr.write(tmp_path, "data_X", layout, array)
    found = _zarr.read(tmp_path, "data_X", _zarr.read_metadata(tmp_path, "data_X"))
    assert found.dtype == array.dtype and np.array_equal(found, array)


def test_small_text_has_all_numbers():
    data = sc.Examples([[[1, 2], [3, 4]]], [[0.5]])
    text = text_of({"data": to_table(data)})
    assert "[1, 2]" in text and from_table("data", tomllib.loads(text)["data"], (sc.Examples,)) == data
