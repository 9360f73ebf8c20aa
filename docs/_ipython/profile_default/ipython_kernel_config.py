"""Kernels of the notebooks: no notices; figures sharp on every screen, with the margins that they were drawn with."""

c = get_config()  # noqa: F821
c.IPKernelApp.log_level = "ERROR"
c.InlineBackend.figure_formats = {"retina"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": None}
