"""Sweeps: one run for every point of a grid of parameters, in one labelled dataset."""
