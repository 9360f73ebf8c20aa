"""The same sweep on every executor, bit for bit; what is refused; what happens when workers are lost."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.runs import swept
from saddlescope.sweeps import executors, loop, work
from saddlescope.sweeps.sweep import sweep

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PROBLEM = sc.Problem(
    sc.DeepLinear((3, 4, 3)), sc.GaussianData(np.diag([2.0, 1.0, 0.5]), label_noise=0.5), sc.init.Gaussian(scale=0.3)
)
BASE = (PROBLEM, sc.SGD(lr=0.05, batch_size=2), sc.Plan(steps=60, trajectories=4, saves=4))
AXES = {
    "network.widths": [(3, 4, 3), (3, 5, 5, 3)],
    "method.lr": [0.02, 0.05, 5.0],
    "sigma": {"data.label_noise": [0.0, 0.5, 1.0], "plan.seed": [1, 2, 3]},
    "T": [0.01, 0.1],
}
DERIVED = {"method.batch_size": "max(1, round(lr / T))"}
QUIET = {"progress": False}


def swept_on(client=None, **options):
    return sweep(BASE, AXES, derived=DERIVED, client=client, **{**QUIET, **options})


def digests(found):
    return found.digest.values.ravel().tolist(), found.message.values.ravel().tolist()


@pytest.fixture(scope="module")
def expected():
    return swept_on()


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 2, "host": "127.0.0.1", "dashboard_address": None}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(processes=True, **options) as made,
    ):
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as made:
        yield made


def test_what_is_compared_is_not_trivial(expected):
    own = expected.digest.values.ravel().tolist()
    assert len(set(own)) > 0.6 * len(own) and {1, 2} <= set(np.unique(expected.status).tolist())


def test_processes(expected):
    assert digests(swept_on(2)) == digests(expected)


def test_dask(expected, client):
    found = swept_on(client)
    assert digests(found) == digests(expected)
    assert found.drop_vars("seconds").equals(expected.drop_vars("seconds"))


def test_an_address(expected, cluster):
    assert digests(swept_on(cluster.scheduler_address)) == digests(expected)


def test_threads_and_anything_with_submit(expected):
    with ThreadPoolExecutor(3) as threads:
        assert digests(swept_on(threads)) == digests(expected)


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_any_size_of_batches_and_any_order(expected, monkeypatch, seconds):
    monkeypatch.setattr(loop, "BLOCK_SECONDS", seconds)
    monkeypatch.setattr(loop, "TASK_SECONDS", 0.0)
    assert digests(swept_on()) == digests(expected)
    answer = loop.queue.SimpleQueue

    class LastFirst(loop.queue.LifoQueue):
        pass

    monkeypatch.setattr(loop.queue, "SimpleQueue", LastFirst)
    with ThreadPoolExecutor(3) as threads:
        assert digests(swept_on(threads)) == digests(expected)
    assert answer is not LastFirst


def test_functions_that_no_worker_can_import(client):
    factor = 3.0

    def reduce(run):
        return {"scaled": factor * run.loss.isel(time=-1)}

    here, *others = (sweep(BASE, {"plan.seed": range(6)}, reduce=reduce, client=c, **QUIET) for c in (None, 1, client))
    for there in others:
        assert digests(there) == digests(here) and (there.status == 1).all()


def test_blas_has_one_thread_everywhere(client):
    control = pytest.importorskip("threadpoolctl")

    def reduce(run):
        from threadpoolctl import threadpool_info

        return {"threads": max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")}

    with control.threadpool_limits(3, "blas"), ThreadPoolExecutor(3) as threads:
        for where in (None, threads, 1, client):
            found = sweep(BASE, {"plan.seed": range(4)}, reduce=reduce, client=where, **QUIET)
            assert (found.threads == 1).all()
        assert reduce(None) == {"threads": 3}


def test_what_data_have_computed_before_is_not_used():
    rng = np.random.default_rng(0)
    data = sc.Dataset(rng.standard_normal((50, 3)), rng.standard_normal((50, 3)))
    base = (sc.Problem(PROBLEM.network, data, PROBLEM.init), *BASE[1:])
    expected = digests(sweep(base, {"plan.seed": [1]}, **QUIET))
    vars(data)["_fit"] = dataclasses.replace(data._fit, teacher=2 * data._fit.teacher)
    assert digests(sweep(base, {"plan.seed": [1]}, **QUIET)) == expected


def test_models_in_other_processes(client):
    jax = pytest.importorskip("jax")

    def init(key):
        one, two = jax.random.split(key)
        return {"w1": jax.random.normal(one, (5, 3)), "w2": jax.random.normal(two, (1, 5))}

    model = sc.Model(lambda params, x: jax.numpy.tanh(x @ params["w1"].T) @ params["w2"].T, init)
    x = np.random.default_rng(0).standard_normal((20, 3))
    base = (sc.Problem(model, sc.Examples(x, x[:, :1])), sc.SGD(0.05, 4), sc.Plan(steps=10, trajectories=2, saves=2))
    here, there = (sweep(base, {"plan.seed": [1, 2]}, reduce="loss", client=c, **QUIET) for c in (None, 1))
    assert digests(here) == digests(there) and (here.status == 1).all()


def test_warnings_are_counted_alike(client):
    def told(where):
        with pytest.warns(UserWarning) as caught:
            swept_on(where)
        return sorted(str(one.message) for one in caught)

    with ThreadPoolExecutor(3) as threads:
        here = told(None)
        assert here and here == told(1) == told(client) == told(threads)


# --- what is refused


def test_workers_of_another_version_are_refused(client, monkeypatch):
    monkeypatch.setattr(executors, "version", lambda: "9.9")
    with pytest.raises(work.UnequalVersions, match=r"client has saddlescope 9\.9, but its workers have \d.*; install"):
        swept_on(client)


@pytest.mark.parametrize("where", ["dask", "processes"])
def test_a_worker_refuses_a_job_of_another_version(client, monkeypatch, where):
    monkeypatch.setattr(executors, "version", lambda: "9.9")
    monkeypatch.setattr(executors, "_check_versions", lambda found: None)
    with pytest.raises(work.UnequalVersions, match=r"client has saddlescope 9\.9, but its workers have"):
        swept_on(client if where == "dask" else 1)


def test_an_address_without_a_scheduler(monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with pytest.raises(ConnectionError, match=f"client = '{address}' does not answer .* dask scheduler") as caught:
            swept_on(address)
        assert "\n" not in str(caught.value)


def test_a_submit_without_futures():
    class Odd:
        def submit(self, function, *arguments):
            return 3

    with pytest.raises(TypeError, match=r"client\.submit must return futures with add_done_callback and result, got 3"):
        swept_on(Odd())


def test_what_cannot_be_pickled():
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"the job cannot be sent to other processes .* leave client out"):
        sweep(BASE, {"plan.seed": [1]}, reduce=lambda run: {"a": 1 if lock else 2}, client=1, **QUIET)


# --- what is lost


def killer(run):
    """Kills its worker at the third seed."""
    if int(run.step[-1]) == 62:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"loss": run.loss[0, -1]}


def test_a_process_that_is_killed(tmp_path):
    lethal = {"plan.steps": [60, 61, 62, 63]}
    local = types.FunctionType(killer.__code__, {"os": os, "signal": signal, "int": int}, "killer")
    local.__module__ = "__main__"
    with pytest.raises(RuntimeError, match=r"the workers were lost after [0-3] of 4 runs .*; the same call resumes"):
        sweep(BASE, lethal, reduce=local, client=1, out=tmp_path / "a.zarr", **QUIET)


def test_a_run_that_kills_every_worker_stays_pending(client):
    local = types.FunctionType(killer.__code__, {"os": os, "signal": signal, "int": int}, "killer")
    local.__module__ = "__main__"
    with pytest.warns(UserWarning, match="1 runs are still pending, such as run 2: their workers died several times"):
        found = sweep(BASE, {"plan.steps": [60, 61, 62, 63]}, reduce=local, client=client, **QUIET)
    assert found.status.values.tolist() == [1, 1, 0, 1]


class KilledWorker(Exception):
    """As that of Dask, which is known by its name."""


@pytest.mark.parametrize(("deaths", "pending"), [(1, []), (10**9, [17])])
def test_runs_of_a_batch_that_was_killed_are_tried_alone(expected, monkeypatch, deaths, pending):
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 10.0)
    seen = []

    class Deadly:
        def submit(self, function, version, content, task, indices, shapes):
            seen.append(indices)
            future = Future()
            if 17 in indices and sum(17 in part for part in seen) <= deaths:
                future.set_exception(KilledWorker())
            else:
                future.set_result(function(version, content, task, indices, shapes))
            return future

    found = swept_on(Deadly())
    assert np.flatnonzero(found.status.values.ravel() == 0).tolist() == pending
    kept = found.digest.values.ravel() == expected.digest.values.ravel()
    assert np.flatnonzero(~kept).tolist() == pending
    killed = next(part for part in seen if 17 in part)
    assert len(killed) > 1 and seen[-len(killed) :] == [[index] for index in killed]


def test_ctrl_c_in_other_threads(tmp_path, expected):
    add = loop.Tally.add

    def stopping(tally, done):
        add(tally, done)
        if 10 <= tally.done < 36:
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(2) as threads:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.Tally, "add", stopping)
            patch.setattr(loop, "BLOCK_SECONDS", 0.0)
            patch.setattr(loop, "TASK_SECONDS", 0.0)
            with pytest.raises(KeyboardInterrupt, match="stopped after 10 of 36 runs; the same call resumes"):
                swept_on(threads, out=tmp_path / "a.zarr")
        assert (swept.read(tmp_path / "a.zarr").status != 0).sum() == 10
        assert digests(swept_on(threads, out=tmp_path / "a.zarr")) == digests(expected)


@pytest.mark.soak
def test_workers_that_are_killed_at_random(tmp_path):
    """Twenty kills: every sweep ends with the results of an undisturbed one, by resuming where it must."""
    axes = {"plan.seed": range(60), "method.lr": [0.02, 0.05]}
    base = (PROBLEM, BASE[1], sc.Plan(steps=4_000, trajectories=64, saves=4))
    options = {"reduce": "loss", **QUIET}
    undisturbed, rng, kills = digests(sweep(base, axes, **options)), np.random.default_rng(0), 0
    while kills < 20:
        with (
            distributed.LocalCluster(n_workers=2, host="127.0.0.1", dashboard_address=None) as made,
            distributed.Client(made, set_as_default=False) as client,
        ):
            over = threading.Event()

            def kill(client=client, over=over):
                nonlocal kills
                while not over.wait(rng.exponential(1.0)):
                    with contextlib.suppress(Exception):
                        victim = rng.choice(sorted(client.run(os.getpid).values()))
                        os.kill(int(victim), signal.SIGKILL)
                        kills += 1

            thread = threading.Thread(target=kill)
            thread.start()
            try:
                found = sweep(base, axes, out=tmp_path / "a.zarr", client=client, **options)
            except RuntimeError as error:
                assert "the same call resumes" in str(error)
                continue
            finally:
                over.set()
                thread.join()
        if (found.status == 0).any():
            continue
        assert digests(found) == undisturbed
        found.close()
        shutil.rmtree(tmp_path / "a.zarr")


def test_a_scheduler_that_is_gone(tmp_path, expected):
    made = distributed.LocalCluster(n_workers=1, processes=True, host="127.0.0.1", dashboard_address=None)
    client = distributed.Client(made, set_as_default=False)
    add = loop.Tally.add

    def closing(tally, done):
        add(tally, done)
        if tally.done >= 10:
            made.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Tally, "add", closing)
        patch.setattr(loop, "BLOCK_SECONDS", 0.0)
        patch.setattr(loop, "TASK_SECONDS", 0.0)
        with pytest.raises(RuntimeError, match=r"the workers were lost after \d+ of 36 runs .*; the same call resumes"):
            swept_on(client, out=tmp_path / "a.zarr")
    client.close()
    assert (swept.read(tmp_path / "a.zarr").status != 0).sum() >= 10
    assert digests(swept_on(2, out=tmp_path / "a.zarr")) == digests(expected)


# --- scripts

SCRIPT = """
import numpy as np, saddlescope as sc, sys
from saddlescope.sweeps.sweep import sweep
problem = sc.Problem(sc.DeepLinear((2, 2)), sc.GaussianData(np.eye(2)), sc.init.Gaussian(scale=0.3))
def reduce(run):
    return {"loss": run.loss.isel(time=-1)}
def main(steps=50, seeds=8, out=None):
    base = (problem, sc.GD(0.05), sc.Plan(steps=steps))
    return sweep(base, {"plan.seed": range(seeds)}, reduce=reduce, client=1, out=out, progress=False)
"""


def python(*arguments, **options):
    return subprocess.Popen([sys.executable, *arguments], text=True, stdout=-1, stderr=-1, **options)


@pytest.mark.parametrize("how", ["file", "module", "stdin"])
def test_a_script_needs_no_guard(tmp_path, how):
    script = SCRIPT + "print(int((main().status == 1).sum()))\n"
    (tmp_path / "plain.py").write_text(script)
    arguments = {"file": ["plain.py"], "module": ["-m", "plain"], "stdin": ["-"]}[how]
    process = python(*arguments, cwd=tmp_path, stdin=subprocess.PIPE)
    told, errors = process.communicate(script if how == "stdin" else "", timeout=120)
    assert told == "8\n", errors


def alive(parent):
    return [line.split()[0] for line in _children() if line.split()[1] == str(parent)]


def _children():
    return subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines()


def running(pid):
    state = subprocess.run(["ps", "-o", "state=", "-p", pid], capture_output=True, text=True).stdout.strip()
    return bool(state) and state != "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(tmp_path, number):
    often = "from saddlescope.simulation import loop\nloop.commit_interval = lambda *since: 0.1\n"
    (tmp_path / "long.py").write_text(often + SCRIPT + "main(steps=20_000, seeds=2_000, out='a.zarr')\n")
    process = python("long.py", cwd=tmp_path)
    children = []
    snapshots = tmp_path / "a.zarr" / "snapshots"
    while len(children) < 2 or len(list(snapshots.glob("*"))) < 3:  # worker and tracker of resources; first results
        time.sleep(0.2)
        children = alive(process.pid)
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    for _ in range(200):
        if not any(map(running, children)):
            break
        time.sleep(0.2)
    assert not any(map(running, children)) and process.returncode != 0
    if number == signal.SIGINT:
        assert "KeyboardInterrupt: stopped after" in errors.splitlines()[-1], textwrap.indent(errors, "> ")
