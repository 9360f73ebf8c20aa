"""No decomposition is handed to the threads as a batch: ensembles on several devices of one processor would hang."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import _jax
from saddlescope.claims.any_network import _networks
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import decode
from saddlescope.observe.base import Sight

DECOMPOSITIONS = {"svd", "qr", "geqrf", "eigh", "eig", "cholesky", "lu"}


def decomposed(jaxpr):
    """Dimensions of what each decomposition in a program takes, those inside loops and calls included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in DECOMPOSITIONS:
            yield equation.invars[0].aval.ndim
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda part: hasattr(part, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from decomposed(inner)


OBSERVED = (
    sc.observe.SingularValues("w1"),
    sc.observe.EffectiveRank("w1"),
    sc.observe.FeatureRank(),
    sc.observe.LogDet("w1", "w2"),
    sc.observe.LayerNoise("w1", count=2),
)


@pytest.mark.parametrize("one", OBSERVED, ids=lambda one: type(one).__name__)
def test_members_are_decomposed_one_after_another(one):
    model, (x, y) = _networks.layers((4, 9, 3)), _networks.teacher(6, inputs=4)
    data = sc.Examples(x, y)
    table, step = Table.of(data, "float32"), decode(sc.Problem(model, data), sc.SGD(0.1, 2), sc.Plan(steps=1))

    def seen(leaves):
        return one.of(Sight(model, model.unflatten(leaves), table, step, jnp.float32(0.1), jnp.float32(0.1)))

    members = tuple(np.ones((3, *leaf.shape), np.float32) for leaf in model.leaves)
    found = list(decomposed(jax.make_jaxpr(jax.vmap(seen))(members).jaxpr))
    assert found == [] or set(found) == {2}, found


def test_a_batch_would_be_found():
    def values(matrix):
        return jnp.linalg.svd(matrix, compute_uv=False)

    for function, dims in ((values, 3), (_jax.one_by_one(values), 2)):
        assert list(decomposed(jax.make_jaxpr(jax.vmap(function))(jnp.ones((3, 2, 2))).jaxpr)) == [dims]
