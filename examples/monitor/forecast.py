"""Does gradient noise forecast the fall of the test loss better than the train loss does? A pre-registered test.

The definitions here and in forecast_runs.py were fixed, and committed, before the first run with a fresh seed.

fall       the first step (of every tenth) at which the test loss is at most 0.8 of its maximum so far
forecast   of log(fall/t) at a record t ≥ 40 before the fall, from log t, a signal x(t) and its change x(t)/x(t/2): each
           as its rank among development runs, so that no choice of scale matters, by a quadratic ridge regression on
           the development runs, the best on average of six forms for the train loss there
error      of a run: the mean of |forecast − log(fall/t)| over its records; runs without a fall are left out
question   "instead": is the error with a noise signal below that with the train loss?
           "besides": is the error with train loss and noise signal together below that with the train loss?
answer     yes if a sign-flip test on the fresh runs of a task gives p < LEVEL, which is 0.05 over all questions, and if
           the mean error is also below that of each control in place of the noise: no signal but the clock, the squared
           gradient, and noise along random directions
"""

from itertools import combinations_with_replacement
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import saddlescope as sc

EVERYWHERE, HEADS = ("trace", "scale", "modes", "leading"), ("head", "spread")
NOISE = {"grokking": EVERYWHERE + HEADS, "plain": EVERYWHERE + HEADS, "digits": EVERYWHERE}
"""Total trace; noise scale; sum of variances along 8 modes of every weight, or along the first; trace of the noisiest
head, and its ratio to the mean of heads."""
CONTROLS = ((), ("gradient",), ("random",))
LEVEL = 0.05 / (2 * sum(map(len, NOISE.values())))
RIDGE, FIRST, FLIPS = 0.01, 40, 200_000


def runs(seeds, task):
    """The records of every run of a task that ends in a fall."""
    table = pd.read_csv(Path(__file__).with_name(f"forecast_{seeds}.csv"))
    return [run for _, run in table[(table.task == task) & (table.fall > 0)].groupby("seed")]


def features(run, names):
    """Log t and, of every signal, log x(t) and log x(t)/x(t/2) (records, …); and what is to be forecast (records,)."""
    t, fall = run.step.to_numpy(), run.fall.iloc[0]
    risk, half = t >= FIRST, np.searchsorted(t, t / 2)
    columns = [np.log(t)]
    for x in (np.log(run[name].to_numpy()) for name in names):
        columns += [x, x - x[half]]
    return np.transpose(columns)[risk], np.log(fall / t[risk])


def forecaster(development, names):
    """A function of features: the regression on the development runs, each with the same weight."""
    found = [features(run, names) for run in development]
    known = np.sort(np.concatenate([x for x, _ in found]), axis=0)

    def design(x):
        rank = [np.searchsorted(a, b) / len(a) for a, b in zip(known.T, x.T, strict=True)]
        linear = [np.ones(len(x)), *((one - 0.5) * 12**0.5 for one in rank)]
        return np.transpose([a * b for a, b in combinations_with_replacement(linear, 2)])

    rows = [(design(x) / len(x) ** 0.5, y / len(x) ** 0.5) for x, y in found]
    A, b = (np.concatenate(one) for one in zip(*rows, strict=True))
    penalty = RIDGE * len(found) * np.eye(A.shape[1])
    penalty[0, 0] = 0
    weights = np.linalg.solve(A.T @ A + penalty, A.T @ b)
    return lambda x: design(x) @ weights


def errors(development, fresh, names):
    """The error of every fresh run."""
    forecast = forecaster(development, names)
    return np.array([np.abs(forecast(x) - y).mean() for x, y in (features(run, names) for run in fresh)])


def p_value(gain):
    """One-sided sign-flip test of gains that are symmetric about 0 where there is nothing to gain."""
    signs = np.random.default_rng(0).choice([-1, 1], (FLIPS, len(gain)))
    return (1 + (signs @ gain >= gain.sum() - 1e-12).sum()) / (1 + FLIPS)


def answers(task, development, fresh):
    """One row for every noise signal and question."""
    train, rows = errors(development, fresh, ("train",)), []
    for question, base in (("instead", ()), ("besides", ("train",))):
        bar = min(errors(development, fresh, base + control).mean() for control in CONTROLS)
        for name in NOISE[task]:
            mine = errors(development, fresh, (*base, name))
            p = p_value(train - mine)
            rows.append((task, question, name, train.mean(), bar, mine.mean(), p, p < LEVEL and mine.mean() < bar))
    return pd.DataFrame(rows, columns=["task", "question", "signal", "train", "best control", "error", "p", "yes"])


def controls(task, development, fresh):
    """The mean errors of the controls, in the form of ``answers``."""
    rows = [
        (task, question, " ".join(control) or "clock", errors(development, fresh, base + control).mean())
        for question, base in (("instead", ()), ("besides", ("train",)))
        for control in CONTROLS[len(base) :]
    ]
    return pd.DataFrame(rows, columns=["task", "question", "signal", "error"])


def draw(table):
    """Mean error of every forecast of each task, without the train loss (open) and with it (full)."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    for axes, (task, rows) in zip(figure.subplots(1, 3), table.groupby("task", sort=False), strict=True):
        for (question, noise), some in rows.groupby(["question", rows.train.notna()], sort=False):
            style = {"color": "C0" if noise else "C1", "mfc": "white" if question == "instead" else None}
            label = f"{'noise' if noise else 'control'} {question}"
            axes.plot(some.error, some.signal, "o" if noise else "s", label=label, **style)
        axes.axvline(rows.train.iloc[0], color="black", label="train loss")
        axes.set(title=task, xlabel="mean error of log(fall/t)", xlim=(0, 1.08 * rows.error.max()))
        axes.invert_yaxis()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
    return figure


def main():
    """Prints the answers; the figure."""
    found = []
    for task in NOISE:
        development, fresh = runs("development", task), runs("fresh", task)
        table = answers(task, development, fresh)
        found += [table, controls(task, development, fresh)]
        lower = table[table.p < LEVEL]
        print(
            f"{task}, {len(fresh)} fresh runs that fall: the train loss misses log(fall/t) by {table.train[0]:.3f} on "
            f"average. Noise that forecasts better: {named(table[table.yes])}; better than the train loss, but not "
            f"than the best control: {named(lower[~lower.yes])}."
        )
    return draw(pd.concat(found, ignore_index=True))


def named(rows):
    """The signals of some rows, with their errors."""
    return ", ".join(f"{row.signal} {row.question} {row.error:.3f}" for row in rows.itertuples()) or "none"


if __name__ == "__main__":
    matplotlib.style.use(sc.plots.STYLE)
    main().savefig("forecast.png", dpi=150)
