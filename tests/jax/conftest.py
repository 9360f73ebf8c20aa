"""Tests that need JAX; without it they are skipped as a whole.

Compilation is nearly all of their time. So a program is compiled once for all processes of a session. A module whose
subject is neither bits nor speed sets ``UNOPTIMISED = True``: its programs compile two to four times as fast.
"""

import os

import pytest

jax = pytest.importorskip("jax")

KEPT_ABOVE = 0.1
"""Seconds of compilation above which a program is kept."""


@pytest.fixture(scope="session", autouse=True)
def kept_programs(tmp_path_factory):
    """Compiled programs in a directory of the session, which processes started by tests share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": KEPT_ABOVE,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield


@pytest.fixture(scope="module", autouse=True)
def optimisation(request, kept_programs):
    """None in a module that says so; its programs are forgotten at its end."""
    if not getattr(request.module, "UNOPTIMISED", False):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
