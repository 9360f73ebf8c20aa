"""Figures of claims: panels together and alone."""

from saddlescope import plots
from saddlescope.claims.intervals import Interval


def test_panels_together_and_alone():
    def draw(axes, numbers):
        for place, panel in enumerate(axes):
            plots.interval(panel, 0.0, numbers)
            panel.set(title=f"panel {place}: 0.12345")

    number = Interval(0.5, 0.4, 0.7)
    sizes = {count: tuple(plots.panels(draw, number, count).get_size_inches() / plots.PANEL) for count in (2, 3, 4, 5)}
    assert sizes == {2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (3, 2)}
    first, second = (plots.to_svgs(plots.panels(draw, number, 5)) for _ in range(2))
    assert first == second and len(first) == 5
    for place, svg in enumerate(first):
        assert [f">panel {other}: 0.12345<" in svg for other in range(5)] == [other == place for other in range(5)]
