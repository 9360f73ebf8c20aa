"""Claims of the literature, each tested against simulation by one command. See ``claim`` for the rule that judges them.

A claim is one module in the folder of its paper; the paper's ``CLAIMS`` lists it.
"""

from __future__ import annotations

from saddlescope.claims import any_network, law_of_balance, rank_deficiency, saddle_to_saddle
from saddlescope.claims.claim import Claim

PAPERS: dict[str, tuple[Claim, ...]] = {
    "saddle-to-saddle": saddle_to_saddle.CLAIMS,
    "law-of-balance": law_of_balance.CLAIMS,
    "rank-deficiency": rank_deficiency.CLAIMS,
    "any-network": any_network.CLAIMS,
}
"""Claims by paper, in the order of the report."""

SOURCES = {
    "saddle-to-saddle": "Saddle-to-saddle regime (Corlouer et al. 2026, arXiv 2604.06366)",
    "law-of-balance": "Law of balance and stationary distribution (Ziyin, Li & Ueda 2023, arXiv 2308.06671)",
    "rank-deficiency": "Rank deficiency (Varre, Sagitova & Flammarion, NeurIPS 2024)",
    "any-network": "Beyond linear networks: where the statements of these papers hold in networks of any kind",
}
"""Topic and reference of each paper."""
