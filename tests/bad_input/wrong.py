"""The table of wrong inputs: the change to a valid run, and the words of the error."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

RIGHT: dict[str, dict[str, Any]] = {
    "network": {"type": "DeepLinear", "widths": [3, 4, 2]},
    "data": {"type": "GaussianData", "teacher": [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "label_noise": 0.5},
    "init": {"type": "Gaussian", "scale": 0.5},
    "method": {"type": "SGD", "lr": 0.05, "batch_size": 4},
    "plan": {"steps": 300, "trajectories": 2, "saves": 2},
}

NAN, INF = float("nan"), float("inf")
FLOW = {"type": "GradientFlow", "lr": 0.05}
SAMPLES = {"type": "Dataset", "X": [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], "Y": [[1.0, 0.5], [0.5, 1.0]]}
CHAINS = {"type": "Diagonal", "depth": 2, "width": 3}
ONE = {"type": "GaussianData", "teacher": [[1.0]]}
MOMENTS = {"type": "Moments", "alpha1": 2.0, "alpha2": 2.0, "alpha3": 3.0, "beta1": 1.0, "beta2": 1.0}
LANGEVIN = {"type": "Langevin", "lr": 0.05, "batch_size": 4.0}
TEMPERED = {"type": "Langevin", "lr": 0.05, "temperature": 0.1}
COSINE, HALVING = {"type": "Cosine", "steps": 10}, {"type": "Step", "every": 10, "factor": 0.5}
GIVEN = [[[0.1] * 3] * 4, [[0.1] * 4] * 2]


class Wrong(NamedTuple):
    """Tables changed (a value None takes the key away), the kind of error, words its sentence must have."""

    changes: dict[str, Any]
    error: type[Exception]
    words: tuple[str, ...]


def wrong(error: type[Exception], *words: str, **changes: Any) -> Wrong:
    return Wrong(changes, error, words)


def tables(case: Wrong) -> dict[str, dict[str, Any]]:
    """The valid run with the changes; ``table__key`` names a key, ``table`` a whole table."""
    changed = copy.deepcopy(RIGHT)
    for name, value in case.changes.items():
        table, _, key = name.partition("__")
        if not key:
            changed[table] = value
        elif value is None:
            del changed[table][key]
        else:
            changed[table][key] = value
    return changed


VALUE, KIND = ValueError, TypeError

WRONG: dict[str, Wrong] = {
    # network
    "one width": wrong(VALUE, "widths must hold at least 2 numbers, got 1", "such as", network__widths=[3]),
    "width zero": wrong(VALUE, "widths", "greater than or equal to 1", network__widths=[3, 0, 2]),
    "width negative": wrong(VALUE, "widths", "greater than or equal to 1", network__widths=[3, -4, 2]),
    "width a fraction": wrong(KIND, "widths", "integer", network__widths=[3, 4.5, 2]),
    "widths a text": wrong(KIND, "widths must be a list", "such as", network__widths="3-4-2"),
    "widths true": wrong(KIND, "widths", "integer", network__widths=[3, True, 2]),
    "widths missing": wrong(KIND, "needs the argument 'widths'", "such as", network__widths=None),
    "first width not the teacher's": wrong(
        VALUE, "widths (5, 4, 2)", "make the first width 3 and the last 2", network__widths=[5, 4, 2]
    ),
    "last width not the teacher's": wrong(VALUE, "widths", "the last 2", network__widths=[3, 4, 3]),
    # data
    "label noise negative": wrong(VALUE, "label_noise", "use 0", data__label_noise=-0.1),
    "label noise nan": wrong(VALUE, "label_noise", "finite", data__label_noise=NAN),
    "label noise a text": wrong(KIND, "label_noise", "number", data__label_noise="little"),
    "label noise true": wrong(KIND, "label_noise", "number", data__label_noise=True),
    "teacher nan": wrong(VALUE, "teacher", "finite", data__teacher=[[NAN, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "teacher ragged": wrong(KIND, "teacher", "equal length", data__teacher=[[1.0, 0.0, 0.0], [0.0, 1.0]]),
    "teacher flat": wrong(VALUE, "teacher", "matrix", data__teacher=[1.0, 2.0]),
    "teacher empty": wrong(VALUE, "teacher", "non-empty", data__teacher=[[]]),
    "teacher a text": wrong(KIND, "teacher", "matrix of numbers", data__teacher="identity"),
    "teacher missing": wrong(KIND, "needs the argument 'teacher'", data__teacher=None),
    "covariance of another size": wrong(VALUE, "covariance", "shape (3, 3)", data__covariance=[[1.0, 0.0], [0.0, 1.0]]),
    "covariance asymmetric": wrong(
        VALUE,
        "covariance",
        "(S + S.T) / 2",
        data__covariance=[[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    ),
    "covariance not positive": wrong(
        VALUE,
        "covariance",
        "positive semi-definite",
        data__covariance=[[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    ),
    "covariance zero": wrong(VALUE, "covariance", "not zero", data__covariance=[[0.0] * 3] * 3),
    "covariance negative": wrong(
        VALUE, "covariance", "semi-definite", data__covariance=[[-1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]]
    ),
    "covariance infinite": wrong(VALUE, "covariance", "finite", data__covariance=[[INF, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "one basis": wrong(VALUE, "left and right", "both", data__left=[[1.0, 0.0], [0.0, 1.0]]),
    "data misspelt": wrong(KIND, "label_nois", "did you mean 'label_noise'", data__label_nois=0.5),
    # data sets
    "samples nan": wrong(VALUE, "X must be finite", data=SAMPLES | {"X": [[1.0, NAN, 2.0], [0.0, 1.0, 1.0]]}),
    "labels infinite": wrong(VALUE, "Y must be finite", data=SAMPLES | {"Y": [[1.0, INF], [0.5, 1.0]]}),
    "no samples": wrong(VALUE, "X", "non-empty", data=SAMPLES | {"X": []}),
    "samples flat": wrong(VALUE, "X", "matrix", data=SAMPLES | {"X": [1.0, 2.0]}),
    "samples a text": wrong(KIND, "X must be a matrix", data=SAMPLES | {"X": "data"}),
    "labels missing": wrong(KIND, "needs the argument 'Y'", data={"type": "Dataset", "X": [[1.0, 0.0, 2.0]]}),
    "a label too many": wrong(VALUE, "X and Y", "2 and 3 rows", "drop", data=SAMPLES | {"Y": [[1.0, 0.5]] * 3}),
    "samples all zero": wrong(VALUE, "X must not be all zero", data=SAMPLES | {"X": [[0.0] * 3] * 2}),
    "samples of another width": wrong(VALUE, "widths", "the first width 2", data=SAMPLES | {"X": [[1.0, 2.0]] * 2}),
    "label noise of samples": wrong(VALUE, "label_noise", "use 0", data=SAMPLES | {"label_noise": -1.0}),
    "names of inputs that lack one": wrong(VALUE, "inputs must name the 3", data=SAMPLES | {"inputs": ["age", "bmi"]}),
    "names of inputs twice": wrong(VALUE, "inputs must be distinct", data=SAMPLES | {"inputs": ["a", "b", "a"]}),
    "names of targets numbers": wrong(KIND, "targets must be names", "got 1 among", data=SAMPLES | {"targets": [1, 2]}),
    "names of targets a line break": wrong(
        VALUE, "targets must be printable", data=SAMPLES | {"targets": ["a\nb", "c"]}
    ),
    "teacher of samples": wrong(KIND, "has no argument 'teacher'", data=SAMPLES | {"teacher": [[1.0]]}),
    "more than there is": wrong(
        VALUE,
        "batch_size must be at most the 2 samples",
        'sampling = "replacement"',
        data=SAMPLES,
        method__sampling="without",
    ),
    "more than an epoch": wrong(VALUE, "batch_size", "at most the 2", data=SAMPLES, method__sampling="shuffle"),
    "aligned noise of samples": wrong(
        VALUE, "aligned", "covariance", data=SAMPLES, method=LANGEVIN | {"noise": "aligned"}
    ),
    # diagonal networks
    "depth zero": wrong(VALUE, "depth", "such as 2", network=CHAINS | {"depth": 0}, data=ONE),
    "depth a fraction": wrong(KIND, "depth", "such as 2", network=CHAINS | {"depth": 1.5}, data=ONE),
    "no chains": wrong(VALUE, "width", "such as 1", network=CHAINS | {"width": 0}, data=ONE),
    "chains of many inputs": wrong(VALUE, "one input and one output", "got 3 and 2", "DeepLinear", network=CHAINS),
    "chains without directions": wrong(
        VALUE,
        "aligned",
        "leave it out",
        network=CHAINS,
        data=ONE,
        init={"type": "Balanced", "scale": 0.1, "aligned": False},
    ),
    "weights of other chains": wrong(
        VALUE,
        "shapes ((3, 1), (3, 1))",
        network=CHAINS,
        data=ONE,
        init={"type": "Given", "weights": [[[0.1]], [[0.1]]]},
    ),
    "moments of layers": wrong(VALUE, "network must be Diagonal", data=MOMENTS),
    "moments in batches": wrong(VALUE, "SGD needs data with samples", "use Langevin", network=CHAINS, data=MOMENTS),
    "moments no data have": wrong(VALUE, "α₂² ≤ α₁α₃", network=CHAINS, data=MOMENTS | {"alpha2": 2.5}),
    "variance negative": wrong(
        VALUE, "alpha3", "such as 2, 2, 3, 1, 1", network=CHAINS, data=MOMENTS | {"alpha3": -1.0}
    ),
    "inputs all zero": wrong(VALUE, "beta1", "greater than 0", network=CHAINS, data=MOMENTS | {"beta1": 0.0}),
    # initialisation
    "scale zero": wrong(VALUE, "scale", "such as 1e-2", init__scale=0.0),
    "scale negative": wrong(VALUE, "scale", "such as 1e-2", init__scale=-1.0),
    "a scale negative": wrong(VALUE, "scale must be greater than 0, got -1", "such as 1e-2", init__scale=[0.1, -1.0]),
    "a scale a word": wrong(KIND, "scale must be a number, got 'x'", "such as 1e-2", init__scale=[0.1, "x"]),
    "scale of one layer": wrong(VALUE, "each of the 2 layers, got 1", "give 2", init__scale=[0.1]),
    "scale and gamma": wrong(VALUE, "exactly one of scale and gamma", "use", init__gamma=2.0),
    "neither scale nor gamma": wrong(VALUE, "exactly one of scale and gamma", "use", init__scale=None),
    "gamma without hidden layers": wrong(
        VALUE, "gamma", "use scale", network__widths=[3, 2], init={"type": "Gaussian", "gamma": 2.0}
    ),
    "aligned a number": wrong(KIND, "aligned", "true or false", init={"type": "Balanced", "scale": 0.1, "aligned": 1}),
    "weights nan": wrong(
        VALUE, "weights[0]", "finite", init={"type": "Given", "weights": [[[NAN] * 3] * 4, [[0.1] * 4] * 2]}
    ),
    "weights of other widths": wrong(
        VALUE, "weights", "shapes", init={"type": "Given", "weights": [[[0.1] * 3] * 5, [[0.1] * 5] * 2]}
    ),
    "weights too few": wrong(VALUE, "weights", "shapes", init={"type": "Given", "weights": GIVEN[:1]}),
    "weights a number": wrong(KIND, "weights", "list of matrices", init={"type": "Given", "weights": 0.1}),
    # method
    "lr zero": wrong(VALUE, "lr", "such as 1e-3", method__lr=0.0),
    "lr negative": wrong(VALUE, "lr", "such as 1e-3", method__lr=-1e-3),
    "lr nan": wrong(VALUE, "lr", "such as 1e-3", method__lr=NAN),
    "lr infinite": wrong(VALUE, "lr", "such as 1e-3", method__lr=INF),
    "lr a text": wrong(KIND, "lr", "such as 1e-3", method__lr="0.1"),
    "lr true": wrong(KIND, "lr", "such as 1e-3", method__lr=True),
    "lr missing": wrong(KIND, "needs the argument 'lr'", "such as 1e-3", method__lr=None),
    "batch size zero": wrong(VALUE, "batch_size", "such as 16", method__batch_size=0),
    "batch size negative": wrong(VALUE, "batch_size", "such as 16", method__batch_size=-4),
    "batch size a fraction": wrong(KIND, "batch_size", "such as 16", method__batch_size=2.5),
    "batch size true": wrong(KIND, "batch_size", "such as 16", method__batch_size=True),
    "batch size missing": wrong(KIND, "needs the argument 'batch_size'", "such as 16", method__batch_size=None),
    "batch size of a full batch": wrong(VALUE, "batch_size", "must be left out", method__sampling="full"),
    "unknown sampling": wrong(VALUE, "sampling", '"without"', method__sampling="twice"),
    "epochs of Gaussian data": wrong(VALUE, 'sampling = "shuffle"', "leave sampling out", method__sampling="shuffle"),
    "learning rate": wrong(KIND, "learning_rate", "did you mean 'lr'", method__learning_rate=0.1),
    "momentum": wrong(VALUE, "momentum", "less than 1", method__momentum=1.5),
    "nesterov": wrong(KIND, "nesterov", "allowed: lr, batch_size", method__nesterov=True),
    "langevin batch size zero": wrong(VALUE, "batch_size", "such as 16", method=LANGEVIN | {"batch_size": 0.0}),
    "neither batch size nor temperature": wrong(
        KIND, "batch_size", "or temperature = 0.1", method={"type": "Langevin", "lr": 0.05}
    ),
    "temperature zero": wrong(
        VALUE, "temperature must be finite and above 0, got 0", "GD(lr)", method=TEMPERED | {"temperature": 0}
    ),
    "temperature negative": wrong(VALUE, "temperature must be", method=TEMPERED | {"temperature": -0.1}),
    "temperature NaN": wrong(VALUE, "temperature must be", "got nan", method=TEMPERED | {"temperature": NAN}),
    "temperature a text": wrong(KIND, "temperature must be a number", method=TEMPERED | {"temperature": "warm"}),
    "temperature and batch size": wrong(VALUE, "give one of them", method=TEMPERED | {"batch_size": 4.0}),
    "temperature of SGD": wrong(
        KIND, "SGD has no argument 'temperature'", method={"type": "SGD", "lr": 0.05, "temperature": 0.1}
    ),
    "dt zero": wrong(VALUE, "dt", "leave it out", method=LANGEVIN | {"dt": 0.0}),
    "unknown noise": wrong(VALUE, "noise", 'use "gradient"', method=LANGEVIN | {"noise": "pink"}),
    "aligned noise on tilted inputs": wrong(
        VALUE,
        "aligned",
        "covariance",
        method=LANGEVIN | {"noise": "aligned"},
        data__covariance=[[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]],
    ),
    "flow in float32": wrong(VALUE, "dtype", "float64", method=FLOW, plan__dtype="float32"),
    "flow lr zero": wrong(VALUE, "lr", "such as 1e-3", method=FLOW | {"lr": 0.0}),
    "decay negative": wrong(VALUE, "weight_decay", "use 0", method__weight_decay=-0.1),
    "decay nan": wrong(VALUE, "weight_decay", "finite", method__weight_decay=NAN),
    "decay a text": wrong(KIND, "weight_decay", "number", method__weight_decay="little"),
    "decay misspelt": wrong(KIND, "did you mean 'weight_decay'", method__weight_deca=0.1),
    "decay of flow negative": wrong(VALUE, "weight_decay", "use 0", method=FLOW | {"weight_decay": -1.0}),
    "order three": wrong(VALUE, "order must be 1 or 2, got 3", method=LANGEVIN | {"order": 3}),
    "order a text": wrong(VALUE, "order must be 1 or 2", method=LANGEVIN | {"order": "second"}),
    "order of sgd": wrong(KIND, "no argument 'order'", method__order=2),
    "schedule of flow": wrong(KIND, "GradientFlow has no argument 'schedule'", method=FLOW | {"schedule": COSINE}),
    "schedule a text": wrong(KIND, "schedule must be a Step or Cosine or Warmup", method__schedule="cosine"),
    "no steps of a cosine": wrong(KIND, "needs the argument 'steps'", "such as", method__schedule={"type": "Cosine"}),
    "steps of a cosine zero": wrong(VALUE, "steps", "such as 10000", method__schedule=COSINE | {"steps": 0}),
    "floor of a cosine above one": wrong(VALUE, "floor", "such as 0.1", method__schedule=COSINE | {"floor": 1.5}),
    "floor of a cosine negative": wrong(VALUE, "floor", "such as 0.1", method__schedule=COSINE | {"floor": -0.5}),
    "factor zero": wrong(VALUE, "factor", "such as 0.1", method__schedule=HALVING | {"factor": 0.0}),
    "factor that grows": wrong(VALUE, "factor", "such as 0.1", method__schedule=HALVING | {"factor": 2.0}),
    "factor nan": wrong(VALUE, "factor", "finite", method__schedule=HALVING | {"factor": NAN}),
    "steps of a schedule a fraction": wrong(KIND, "every", "integer", method__schedule=HALVING | {"every": 2.5}),
    "warm-up after warm-up": wrong(
        KIND,
        "then must be a Step or Cosine",
        method__schedule={"type": "Warmup", "steps": 3, "then": {"type": "Warmup", "steps": 3}},
    ),
    "schedule misspelt": wrong(KIND, "no argument 'flor'", "'floor'", method__schedule=COSINE | {"flor": 0.5}),
    # plan
    "steps zero": wrong(VALUE, "steps", "such as 10000", plan__steps=0),
    "steps beyond counting": wrong(VALUE, "steps", "such as 10000", plan__steps=10**18),
    "steps a fraction": wrong(KIND, "steps", "such as 10000", plan__steps=10.5),
    "steps true": wrong(KIND, "steps", "such as 10000", plan__steps=True),
    "steps missing": wrong(KIND, "needs the argument 'steps'", "such as 10000", plan__steps=None),
    "no trajectories": wrong(VALUE, "trajectories", "such as 512", plan__trajectories=0),
    "saves zero": wrong(VALUE, "saves", "such as 100", plan__saves=0),
    "saves a fraction": wrong(KIND, "saves", "such as 100", plan__saves=2.5),
    "seed negative": wrong(VALUE, "seed", "at least 0", plan__seed=-1),
    "seed a text": wrong(KIND, "seed", "whole number", plan__seed="lucky"),
    "unknown dtype": wrong(VALUE, "dtype", 'use "float64" or "float32"', plan__dtype="float16"),
    "threads zero": wrong(VALUE, "threads", "leave it out", plan__threads=0),
    "keep everything": wrong(VALUE, "keep", 'use "statistics"', plan__keep="everything"),
    "save after the end": wrong(VALUE, "save_at", "raise steps", plan__save_at=[0, 1000]),
    "no save": wrong(VALUE, "save_at must not be empty", plan__save_at=[]),
    "save before the start": wrong(VALUE, "save_at", "such as", plan__save_at=[-1]),
    "members twice": wrong(VALUE, "members", "distinct", plan__members=[3, 3]),
    "members other than trajectories": wrong(
        VALUE, "trajectories", "leave trajectories out", plan__members=[1, 2, 3], plan__trajectories=2
    ),
    "member negative": wrong(VALUE, "members", "such as [17]", plan__members=[-1], plan__trajectories=1),
    "unknown event": wrong(VALUE, "events", '"noise_peak"', plan__events=["noise"]),
    "plan misspelt": wrong(KIND, "trajectoris", "did you mean 'trajectories'", plan__trajectoris=2),
}
"""Wrong both in Python and in a TOML."""
