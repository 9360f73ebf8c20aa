"""Engines advance ensembles: a compiled one, and a plain NumPy one to check it against."""
