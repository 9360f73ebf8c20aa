"""The live page: theory and simulation in a browser, in one file that needs no server and no network."""

from saddlescope.explore.live import page

__all__ = ["page"]
