"""Every test with the argument ``engine`` runs on every engine."""

import hypothesis
import pytest

from support import ENGINES, engine_class

hypothesis.settings.register_profile("fixed seed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed seed")


@pytest.fixture(params=ENGINES)
def engine(request):
    """An engine class: ``engine(problem, method, plan)``."""
    return engine_class(request.param)
