"""Tests that need JAX; without it they are skipped as a whole."""

import pytest

pytest.importorskip("jax")
