"""Callers and NumPy twins of the compiled code."""
