"""The command line: the verbs of the package on TOML files and stores."""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from rich.console import Console
from rich.table import Table

from saddlescope.engines import make_engine
from saddlescope.observables import THRESHOLDS
from saddlescope.runs import store
from saddlescope.runs.run import earlier, final_state, parsed, parts
from saddlescope.simulation import estimate
from saddlescope.simulation.simulate import simulate

WRONG, INTERRUPTED = 2, 130

app = typer.Typer(
    help="The microscope for SGD noise in networks whose dynamics can be written down.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE.toml", help="Problem, method and plan.")]
Source = Annotated[Path, typer.Argument(metavar="STORE", help="A store written by run.")]


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
    file: File,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="STORE.zarr", help="Where to write the run.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    threads: Annotated[int | None, typer.Option(help="Number of threads; all cores by default.")] = None,
    engine: Annotated[str, typer.Option(help="auto, native or reference.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate time, memory and size.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar, no summary.")] = False,
) -> None:
    """Simulate the run of a TOML file; an interrupted run is resumed."""
    problem, method, plan = store.read(file)
    if threads is not None:
        plan = replace(plan, threads=threads)
    estimate.check_memory(problem, method, estimate.sample(plan) if dry_run else plan, engine=engine)
    make_engine(engine, problem, method, plan)  # raises before any output if the run is not possible
    needs = estimate.size(problem, method, plan, engine)
    if dry_run:
        takes = estimate.in_time(estimate.seconds(problem, method, plan, engine))
        typer.echo(f"time {takes}, memory about {estimate.in_bytes(needs.memory())}, {needs}")
        estimate.check_memory(problem, method, plan, engine=engine)
        return
    if out is None:
        raise ValueError("-o is missing: give the store to write, such as -o run.zarr, or --dry-run")
    if not quiet:
        typer.echo(f"{out}: {needs}")
    finished = simulate(problem, method, plan, engine=engine, out=out, overwrite=overwrite, progress=not quiet)
    if not quiet:
        _summary(finished, str(out))


@app.command()
@one_sentence()
def info(path: Source) -> None:
    """Show a store: progress, modes, and the TOML that reproduces it."""
    stored = store.load(path)
    store.check(path)
    _summary(stored, str(path))
    for toml in earlier(stored.attrs):
        _, method, plan = parsed(toml, stored)
        typer.echo(
            f"continues {plan.steps:,} steps of {method}; this TOML alone does not reproduce it; use simulate(run, …)"
        )
    typer.echo()
    typer.echo(stored.attrs["toml"], nl=False)


@app.command()
@one_sentence()
def plot(
    path: Source,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FIGURE", help="File to write: png, pdf or svg.")],
    theory: Annotated[bool, typer.Option("--theory/--no-theory", help="Draw theory beside the simulation.")] = True,
) -> None:
    """Plot a run: mode strengths with theory, mode noise, loss, balance of the layers, rank."""
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
) -> None:
    """Test claims of the literature and write a report; exit code 1 if one is refuted."""
    from saddlescope.claims.reproduce import reproduce

    raise typer.Exit(reproduce(names or (), quick, out))


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
        Console().print(_modes(run))


def _modes(run: xr.Dataset) -> Table:
    """Per mode: target, strength at the last save, median learning times, fraction learned."""
    strength = run["mode_strength"].isel(time=-1)
    strength = strength.sel(statistic="mean") if "statistic" in strength.dims else strength.mean("trajectory")
    times = [f"median steps to {theta} s* (fraction learned)" for theta in THRESHOLDS] if "learning_time" in run else []
    table = Table("mode", "s*", f"mean at step {int(strength.step):,}", *times, box=None)
    for index, target in enumerate(run["target"].values):
        row = [str(index), f"{target:.4g}", f"{float(strength[index]):.4g}"]
        if times:
            row += [_median(run["learning_time"].values[:, q, index]) for q in range(len(THRESHOLDS))]
        table.add_row(*row)
    return table


def _median(steps: Any) -> str:
    """Median learning time (none unless half have learned), and the fraction that has learned."""
    if np.isnan(steps).all():
        return "–"
    learned = np.isfinite(steps).mean()
    return f"{np.median(steps):,.0f} ({learned:.0%})" if learned > 0.5 else f"– ({learned:.0%})"
