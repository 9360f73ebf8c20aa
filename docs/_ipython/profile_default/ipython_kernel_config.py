"""Figures of the notebooks: sharp on every screen, with the margins that they were drawn with."""

c = get_config()  # noqa: F821
c.InlineBackend.figure_formats = {"retina"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": None}
