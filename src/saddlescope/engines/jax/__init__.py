"""Engines in JAX: ensembles of a Model, and networks that have a kernel too."""
