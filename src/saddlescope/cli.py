"""The command line: the verbs of the package on TOML files and stores."""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from rich.console import Console
from rich.table import Table

from saddlescope import _threads
from saddlescope._tables import brief, text_of
from saddlescope.engines import make_engine
from saddlescope.methods import Method
from saddlescope.monitor.summary import summary
from saddlescope.observables import THRESHOLDS
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs import store
from saddlescope.runs.place import free, is_run
from saddlescope.runs.run import earlier, final_state, parsed, parts
from saddlescope.runs.swept import is_sweep
from saddlescope.runs.training import is_training
from saddlescope.simulation import advice, estimate
from saddlescope.simulation.simulate import simulate
from saddlescope.simulation.start import lengthened

WRONG, INTERRUPTED = 2, 130

app = typer.Typer(
    help="The microscope for SGD noise in networks whose dynamics can be written down.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunSource = Annotated[
    Path, typer.Argument(metavar="FILE.toml|STORE", help="Problem, method and plan, or a store to finish or extend.")
]
Source = Annotated[
    Path, typer.Argument(metavar="STORE", help="A store written by run, simulate(…, out=…) or watch.save(…).")
]


Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes on this machine.")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, such as tcp://host:8786.")
]


def _client(workers: int | None, scheduler: str | None) -> int | str | None:
    """Where runs or claims are executed; None for this process."""
    if workers is not None and scheduler is not None:
        raise ValueError("--workers and --scheduler exclude each other; leave one out")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be a number of processes of at least 1, got {workers}; leave it out")
    return scheduler or workers


def main() -> None:
    """Entry point of the command ``saddlescope``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # so that an ASCII terminal does not raise
    app(prog_name="saddlescope")


@contextmanager
def one_sentence() -> Iterator[None]:
    """End wrong input with one sentence and code 2, Ctrl-C with code 130, neither with a traceback."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            yield
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (TypeError, ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG) from None
    except MemoryError:
        typer.echo("error: out of memory; lower trajectories or saves", err=True)
        raise typer.Exit(WRONG) from None
    except KeyboardInterrupt as stop:
        typer.echo(str(stop) or "stopped; run the same again to resume", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _show_warning(message: Warning | str, *_: Any) -> None:
    typer.echo(f"warning: {message}", err=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"saddlescope {importlib.metadata.version('saddlescope')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
@one_sentence()
def run(
    source: RunSource,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="STORE.zarr", help="Where to write the run.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Steps in total: a shorter run in STORE is extended.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    threads: Annotated[int | None, typer.Option(help="Number of threads; all cores by default.")] = None,
    engine: Annotated[str, typer.Option(help="auto, native, reference or jax.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only warn, and estimate time, memory and size.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar, no summary.")] = False,
) -> None:
    """Simulate the run of a TOML file, or finish that of a store; an interrupted run is resumed.

    With --steps N a run of fewer steps, finished or not, is extended to N in its store, bit-identical to one run of N
    steps. Its saves stay; later ones are at the steps at which the plan for N steps would save.
    """
    job = _job(source, out, steps, overwrite)
    plan = job.plan if threads is None else replace(job.plan, threads=threads)
    estimate.check_memory(job.problem, job.method, estimate.sample(plan) if dry_run else plan, engine=engine)
    made = make_engine(engine, job.problem, job.method, plan)  # raises before any output if the run is not possible
    needs = estimate.size(job.problem, job.method, plan, engine)
    if job.done and not quiet:
        typer.echo(f"{job.done:,} of {plan.steps:,} steps are done: their saves stay, {job.later:,} will follow")
    if dry_run:
        if isinstance(job.start, xr.Dataset):
            advice.before(job.problem, job.method, plan, made, final_state(job.start))
        else:
            few = make_engine(engine, job.problem, job.method, estimate.sample(plan))
            advice.before(job.problem, job.method, plan, few, few.init())
        left = 1 - job.done / plan.steps
        takes = estimate.in_time(left * estimate.seconds(job.problem, job.method, plan, engine))
        typer.echo(f"time {takes}, memory about {estimate.in_bytes(needs.memory())}, {needs}")
        estimate.check_memory(job.problem, job.method, plan, engine=engine)
        return
    if job.out is None:
        raise ValueError("-o is missing: give the store to write, such as -o run.zarr, or --dry-run")
    free(job.out)
    if not quiet:
        typer.echo(f"{job.out}: {needs}")
    finished = simulate(
        job.start, job.method, plan, engine=engine, out=job.out, overwrite=job.overwrite, progress=not quiet
    )
    if not quiet:
        _summary(finished, str(job.out))


@dataclass(frozen=True, eq=False)
class _Job:
    """What run simulates; ``start`` is the problem, or a run of ``done`` steps that is extended to the plan."""

    start: Problem | xr.Dataset
    problem: Problem
    method: Method
    plan: Plan
    out: Path | None
    overwrite: bool
    done: int = 0

    @property
    def later(self) -> int:
        """Number of saves after the steps done."""
        return int((self.plan.save_steps > self.done).sum())


def _job(source: Path, out: Path | None, steps: int | None, overwrite: bool) -> _Job:
    """What the arguments of run ask for: a run file from its start, or a store that is finished or extended."""
    stored = source if source.is_dir() else None
    if stored is None and steps is not None and not overwrite and out is not None and is_run(out):
        stored = out
    if stored is None:
        problem, method, plan = store.read(source)
        return _Job(problem, problem, method, plan if steps is None else replace(plan, steps=steps), out, overwrite)
    out = stored if out is None else out
    before = store.load(stored)
    problem, method, old = parts(before)
    asked = (problem, method, old) if source.is_dir() else store.read(source)
    if asked[:2] != (problem, method):
        raise FileExistsError(
            f"{str(stored)!r} holds a run of another problem or method, which {str(source)!r} does not extend; "
            "pass --overwrite to replace it, or another path"
        )
    if steps is not None and steps < old.steps:
        raise ValueError(
            f"--steps must be at least the {old.steps:,} steps of {str(stored)!r}, got {steps:,}; raise it"
        )
    plan, done = asked[2] if steps is None else replace(asked[2], steps=steps), final_state(before).step
    if done >= plan.steps:
        raise ValueError(f"{str(stored)!r} is complete with {done:,} steps; give --steps with more to extend it")
    same = out.resolve() == stored.resolve()
    if same and overwrite:
        raise ValueError(f"--overwrite would replace {str(stored)!r}, which is to be extended; leave it out")
    plan = lengthened(old, plan) if plan.steps > old.steps else old
    return _Job(before, problem, method, plan, out, overwrite, done)


@app.command()
@one_sentence()
def sweep(
    source: Annotated[
        Path, typer.Argument(metavar="FILE.toml", help="A run file with [axes], and if need be [derived], [reduce].")
    ],
    out: Annotated[
        str | None, typer.Option("-o", "--out", metavar="STORE", help="Where to write the sweep: a path, or s3://….")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", metavar="N", help="Stop when more runs raise an error.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sweep.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate time, memory and size.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")] = False,
) -> None:
    """Run every point of a grid; the same command resumes an interrupted sweep.

    Runs that raise an error or diverge are recorded, and the sweep continues. Without --workers there
    is one process a core.
    """
    from saddlescope.sweeps.file import read
    from saddlescope.sweeps.planning import needs
    from saddlescope.sweeps.summary import summary
    from saddlescope.sweeps.sweep import execute

    client = _client(workers, scheduler) or _threads.available()
    setup = read(source)
    if dry_run:
        typer.echo(needs(setup).on(workers or _threads.available()))
        return
    if out is None:
        raise ValueError("-o is missing: give the store to write, such as -o sweep.icechunk, or --dry-run")
    options: dict[str, Any] = {"max_failures": max_failures, "overwrite": overwrite, "progress": not quiet}
    found = execute(setup, out, None if client == 1 else client, **options)
    if not quiet:
        typer.echo(f"{out}: {summary(found)}")


@app.command()
@one_sentence()
def info(
    path: Source,
    toml: Annotated[bool, typer.Option("--toml", help="Print the complete TOML alone, as input of run.")] = False,
) -> None:
    """Show a store: progress, modes, and its TOML, with long arrays given by their shape.

    "saddlescope info STORE --toml > run.toml" writes the run file that reproduces it. Of what a
    monitor recorded of a training (watch.save) it shows the summary.
    """
    stored = store.load(path)
    if is_sweep(stored):
        _info_of_sweep(stored, path, toml)
        return
    if is_training(stored):
        if toml:
            raise ValueError(
                f"--toml needs the store of a run; {str(path)!r} holds what a monitor recorded, which has no TOML; "
                "leave --toml out to see its summary"
            )
        typer.echo(f"{path}: {summary(stored)!r}")
        return
    if not toml:
        store.check(path)
        _summary(stored, str(path))
    for before in earlier(stored.attrs):
        _, method, plan = parsed(before, stored)
        typer.echo(
            f"continues {plan.steps:,} steps of {method}; this TOML alone does not reproduce it; use simulate(run, …)",
            err=toml,
        )
    if toml:
        typer.echo(stored.attrs["toml"], nl=False)
        return
    typer.echo()
    complete = tomllib.loads(stored.attrs["toml"])
    short = brief(complete)
    typer.echo(text_of(short), nl=False)
    if short != complete:
        typer.echo("\nshapes stand for long arrays; saddlescope info STORE --toml prints the complete TOML")


@app.command()
@one_sentence()
def plot(
    path: Source,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FIGURE", help="File to write; its suffix is the format: png, jpg, pdf, svg."
        ),
    ],
    theory: Annotated[bool, typer.Option("--theory/--no-theory", help="Draw theory beside the simulation.")] = True,
) -> None:
    """Plot a run, or what a monitor recorded of a training (watch.save): mode strengths and noise, balance, rank."""
    from saddlescope.plots import save
    from saddlescope.plots.picture import plot

    save(plot(store.load(path), theory), out)


@app.command()
@one_sentence()
def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CLAIM]…", help="Papers or claims; all by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller ensembles; takes minutes.")] = False,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the report.")] = Path("report"),
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Test claims of the literature and write a report; exit code 1 if one is refuted.

    By default one claim after another is judged in this process.
    """
    from saddlescope.claims.reproduce import reproduce

    raise typer.Exit(reproduce(names or (), quick, out, client=_client(workers, scheduler)))


@app.command()
@one_sentence()
def explore(
    path: Annotated[
        Path | None, typer.Argument(metavar="[STORE]", help="A run, a sweep or a recorded training to show.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE.html", help="Write the page there; nothing is opened.")
    ] = None,
) -> None:
    """Open the live page: theory and simulation in the browser, in one file that needs no network.

    With -o it is written instead of opened: send it to others, who need nothing but a browser.
    """
    from saddlescope.explore.live import show

    typer.echo(str(show(path, out)))


@app.command("claims")
@one_sentence()
def list_claims() -> None:
    """List the claims that reproduce can test, by paper."""
    from saddlescope.claims import PAPERS, SOURCES
    from saddlescope.claims.reproduce import select

    for paper in PAPERS:
        typer.echo(SOURCES[paper])
        for name, claim in select([paper]).items():
            typer.echo(f"  {name}\n      {claim.title}")


@app.command()
@one_sentence()
def bench(
    works: Annotated[list[str] | None, typer.Argument(metavar="[WORK]…", help="W1 to W5; all by default.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds; 5 by default, 3 with --quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter races; takes minutes.")] = False,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the results.")] = Path("bench"),
) -> None:
    """Compare speed with every peer installed; exit code 1 if one simulates another distribution."""
    from saddlescope import bench as benchmark

    raise typer.Exit(benchmark.bench(works or (), repeats, quick, out))


def _info_of_sweep(stored: xr.Dataset, path: Path, toml: bool) -> None:
    from saddlescope.sweeps.summary import summary

    if not toml:
        typer.echo(f"{path}: {summary(stored.load())}\n")
    typer.echo(stored.attrs["toml"], nl=False)


def _summary(run: xr.Dataset, name: str) -> None:
    _, _, plan = parts(run)
    state, diverged = final_state(run), int((run["status"] != 0).sum())
    typer.echo(
        f"{name}: {'complete' if run.attrs['complete'] else 'not complete'}, "
        f"{state.step:,} of {plan.steps:,} steps, {run.sizes['time']} saves, "
        f"{state.trajectories:,} trajectories ({diverged:,} diverged), "
        f"engine {run.attrs['engine']} {run.attrs['instruction_set']}".rstrip()
    )
    if run.sizes["time"]:
        Console().print(_modes(run) if {"mode_strength", "target"} <= {*run.variables} else _means(run))


def _means(run: xr.Dataset) -> Table:
    """Per variable of a Model that is one number: its mean at the last save."""
    table = Table("variable", f"mean at step {int(run['step'][-1]):,}", box=None)
    for name, values in run.data_vars.items():
        if {*values.dims} in ({"statistic", "time"}, {"trajectory", "time"}):
            last = values.isel(time=-1)
            mean = float(last.sel(statistic="mean") if "statistic" in last.dims else last.mean("trajectory"))
            table.add_row(str(name), "–" if np.isnan(mean) else f"{mean:.4g}")
    return table


def _modes(run: xr.Dataset) -> Table:
    """Per mode: target, strength at the last save, median learning times, fraction learned without divergence."""
    strength = run["mode_strength"].isel(time=-1)
    strength = strength.sel(statistic="mean") if "statistic" in strength.dims else strength.mean("trajectory")
    times = [f"median steps to {theta} s* (fraction learned)" for theta in THRESHOLDS] if "learning_time" in run else []
    lost = run["status"].values != 0
    note = "means leave out diverged trajectories, which count as not learned" if lost.any() else None
    table = Table("mode", "s*", f"mean at step {int(strength.step):,}", *times, box=None, caption=note)
    for index, target in enumerate(run["target"].values):
        mean = float(strength[index])
        row = [str(index), f"{target:.4g}", "–" if np.isnan(mean) else f"{mean:.4g}"]
        for q in range(len(times)):
            steps = run["learning_time"].values[:, q, index]
            row.append(_median(np.where(lost & np.isfinite(steps), np.inf, steps)))
        table.add_row(*row)
    return table


def _median(steps: Any) -> str:
    """Median learning time (none unless half have learned), and the fraction that has learned."""
    if np.isnan(steps).all():
        return "–"
    learned = np.isfinite(steps).mean()
    return f"{np.median(steps):,.0f} ({learned:.0%})" if learned > 0.5 else f"– ({learned:.0%})"
