"""Beyond linear networks: statements of the three papers, tested in networks of any kind.

One file per claim. Networks are ``Model``s, which need JAX; claims import it when they run, and state ``extra="jax"``.
``_networks`` holds the networks and the data that claims share.
"""

from saddlescope.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
