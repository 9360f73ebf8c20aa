"""How processes end, and what they print on ASCII-only terminals."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope import _threads, cli
from saddlescope.runfile import run_from_toml, run_to_toml
from support import PROBLEMS

METHOD, PLAN = sc.SGD(lr=0.05, batch_size=2), sc.Plan(steps=40, trajectories=3, saves=2, threads=1)

DAEMON = """
import threading, time
import saddlescope as sc
from saddlescope import _kernel
problem = sc.Problem(sc.DeepLinear((2, 3, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 1.0]]), sc.init.Gaussian(scale=0.3))
inside = threading.Event()
"""

WORK = {
    "simulate": "sc.simulate(problem, sc.SGD(1e-3, 4), sc.Plan(steps=10**12, trajectories=9, saves=2, threads=2))",
    "store": "sc.simulate(problem, sc.GD(1e-3), sc.Plan(steps=10**12, saves=2, threads=1), out='run.zarr')",
    "observe": "sc.simulate(problem, sc.GD(1e-3), sc.Plan(steps=10**6, saves=10**6, threads=1))",
    "mode": "[sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1).simulate(1.0, [9.0], 4000) for _ in range(10**6)]",
}


@pytest.mark.parametrize("work", WORK)
def test_a_daemon_thread_at_the_end_of_the_interpreter(work, tmp_path):
    """The process ends while a thread computes without the interpreter lock, and when it tries to reacquire it."""
    begin = f"def work():\n    inside.set()\n    {WORK[work]}\n"
    end = "threading.Thread(target=work, daemon=True).start()\ninside.wait()\ntime.sleep(0.3)\n"
    program = [sys.executable, "-c", DAEMON + begin + end]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_of_ascii_alone(tmp_path):
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], METHOD, PLAN))
    program = [sys.executable, "-m", "saddlescope"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    for words in (["run", "run.toml", "-o", "größe.zarr"], ["info", "§.zarr"]):
        done = subprocess.run([*program, *words], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == (2 if "§.zarr" in words else 0) and "Traceback" not in done.stderr, done.stderr


def test_a_toml_with_a_mark_of_byte_order(tmp_path):
    text = run_to_toml(PROBLEMS["wide"], METHOD, PLAN)
    assert run_from_toml("\ufeff" + text) == (PROBLEMS["wide"], METHOD, PLAN)
    assert sc.Problem.from_toml("\ufeff" + PROBLEMS["wide"].to_toml()) == PROBLEMS["wide"]
    (tmp_path / "run.toml").write_text(text, encoding="utf-8-sig")
    assert CliRunner().invoke(cli.app, ["run", str(tmp_path / "run.toml"), "--dry-run"]).exit_code == 0


def test_threads_where_the_system_does_not_say_which_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _threads.available() == os.cpu_count()
    mode = sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1)
    assert mode.simulate(1.0, [0.1], 8).shape[0] == 8
    assert sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, saves=1)).attrs["complete"]


@pytest.mark.parametrize("threads", [0, 2**31, 2**70, 1.5])
def test_a_number_of_threads_that_no_machine_has(threads):
    with pytest.raises((TypeError, ValueError), match="threads must be"):
        sc.Plan(steps=2, threads=threads)
