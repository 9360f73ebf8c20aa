"""Every test that asks for ``engine`` runs on every engine."""

import pytest

from support import ENGINES, engine_class


@pytest.fixture(params=ENGINES)
def engine(request):
    """An engine class: ``engine(problem, method, plan)``."""
    return engine_class(request.param)
