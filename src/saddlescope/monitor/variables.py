"""The variables of a watched training: dims, units, definition, and how each reads.

``G_i`` is N times what sample i of a step of N samples adds to the gradient, so that their mean is the gradient ``ḡ``
of the mean loss. ``u_α, s_α, v_α`` are the leading singular triplets of a weight W as a matrix. Standard errors are one
standard deviation of the estimate; variances are those of single samples.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from saddlescope.observables import Variable


class Status(enum.IntFlag):
    """Why numbers of a weight at a step are missing or not to be trusted; 0 where all is well."""

    CHECK_FAILED = 1
    NO_GRADIENT = 2
    NOT_FINITE = 4
    NOT_RECORDED = 8
    REFUSED = 16
    CROSS_TERM_MISSING = 32
    OTHER_SHAPE = 64


MEANINGS = {
    Status.CHECK_FAILED: "samples do not add up to the gradient: a penalty in the loss, or a use outside the layer's "
    "forward; its variances are not those of the samples",
    Status.NO_GRADIENT: "no gradient arrived: call backward inside watch.step(), or freeze what is not used",
    Status.NOT_FINITE: "a gradient or a weight was infinite or NaN: look at the learning rate and at the loss scale",
    Status.NOT_RECORDED: "its layer was not called as a module, or its hooks could not fire; if the training step is "
    "compiled, use watch.probe(loss_fn, batch)",
    Status.REFUSED: "its samples were not told apart; watch.coverage() has the reason",
    Status.CROSS_TERM_MISSING: "used several times in one backward pass, which was not known before: its trace is "
    "left out until the next record",
    Status.OTHER_SHAPE: "the weight had another shape than before",
}
"""What each flag usually means."""

LOSS, DISTURBED = "loss/weight", "(loss/weight)²"
STEP, CHANGE = "weight²", "weight²/step"


@dataclass(frozen=True)
class Measured(Variable):
    """A variable of the monitor, with what a large, falling or negative value means, and what it does not mean."""

    reads_as: str = ""

    @property
    def attrs(self) -> dict[str, str]:
        """As attributes of a labelled array."""
        return super().attrs | ({"reads_as": self.reads_as} if self.reads_as else {})


def _measured(dim: str, units: str, long_name: str, definition: str, reads_as: str) -> Measured:
    """A variable with the dims ``step`` and those named in ``dim``."""
    return Measured(("step", *dim.split()), units, long_name, definition, reads_as=reads_as)


def _stderr(dim: str, units: str, of: str, definition: str) -> Measured:
    """The standard error of another variable."""
    reads_as = f"Uncertainty of the {of} at this step; two of them on either side hold about 95 % of the estimates."
    return _measured(dim, units, f"standard error of the {of}", definition, reads_as)


MODES = {
    "mode_strength": _measured(
        "weight mode", "weight", "mode strength", "s_α, the singular value of W, largest first",
        "Rising: this direction of the weight passes more on. It belongs to one weight, not to a feature of the "
        "network.",
    ),
    "mode_signal": _measured(
        "weight mode", LOSS, "mode signal", "u_αᵀ ḡ v_α",
        "Negative: descent strengthens the mode; positive: it weakens it; within two standard errors of 0: the batch "
        "does not tell. Momentum, weight decay and the scaling of an adaptive optimizer are not in it.",
    ),
    "mode_signal_stderr": _stderr("weight mode", LOSS, "mode signal", "√(mode_variance / N)"),
    "mode_variance": _measured(
        "weight mode", DISTURBED, "mode noise", "Var_i[u_αᵀ G_i v_α]",
        "Large beside control_variance: samples disagree along this mode more than along any direction. Falling: "
        "they agree more, or all gradients shrink. SGD moves s_α by it with variance η²/B a step. A peak does not "
        "announce that a feature is learned: random directions peak at about the same time.",
    ),
    "mode_variance_stderr": _stderr("weight mode", DISTURBED, "mode noise", "from the fourth moment of the samples"),
    "mode_block": _measured(
        "weight mode", "1", "degenerate block", "label of the block of singular values too close to be told apart",
        "Modes with the same label: only their span has a meaning, its single directions rotate from record to "
        "record.",
    ),
    "mode_residual": _measured(
        "weight mode", "1", "residual of the mode", "‖Wv_α − s_αu_α‖ / s_α, where Wᵀu_α = s_αv_α",
        "Small: u_α and v_α are singular vectors. Large: the directions lag behind the weight, and so do their "
        "numbers.",
    ),
    "control_signal": _measured(
        "weight control", LOSS, "signal of a random direction", "u'ᵀ ḡ v' for fixed random unit vectors u', v'",
        "What a direction without meaning shows; only what a mode shows beyond it belongs to the mode.",
    ),
    "control_signal_stderr": _stderr("weight control", LOSS, "signal of a random direction", "√(control_variance / N)"),
    "control_variance": _measured(
        "weight control", DISTURBED, "noise of a random direction", "Var_i[u'ᵀ G_i v'] for fixed random unit vectors",
        "About trace/(m n). A peak that these directions show too is no property of a mode.",
    ),
    "control_variance_stderr": _stderr(
        "weight control", DISTURBED, "noise of a random direction", "from the fourth moment of the samples"
    ),
    "check": _measured(
        "weight", "1", "self-check", "|Σ_i projections − uᵀ ḡ v| relative to the projections, worst mode",
        "Rounding (about 1e-6 in single, 1e-2 in half precision): the samples add up to the gradient. Larger: part "
        "of the gradient is not theirs, as with a penalty in the loss. It does not see a sum that was declared a "
        "mean.",
    ),
}  # fmt: skip
"""Along the leading singular directions of a weight, and along random ones."""

STATUS = _measured(
    "weight", "1", "status", "0, or the sum of the flags that hold",
    "0: all is well. Otherwise the numbers of this weight at this step are missing, or not what their names say.",
)  # fmt: skip

NOISE = {
    "trace": _measured(
        "parameter", DISTURBED, "gradient noise", "Tr Cov_i[G_i] over the entries of the parameter",
        "Large: samples disagree. Falling with gradient_norm2: gradients shrink; falling alone: samples agree more. "
        "T times it is the variance that SGD adds to the parameter per unit of time. Estimates from few samples may "
        "be negative.",
    ),
    "trace_stderr": _stderr(
        "parameter", DISTURBED, "gradient noise",
        "from the spread of ‖G_i‖² over the samples; too large where the mean gradient exceeds the noise",
    ),
    "gradient_norm2": _measured(
        "parameter", DISTURBED, "squared gradient", "‖ḡ‖²",
        "Of the batch: it exceeds ‖E G‖² by about trace/N, so that near a minimum it is noise alone.",
    ),
    "head_trace": _measured(
        "weight head", DISTURBED, "gradient noise of a head", "Tr Cov_i[G_i] over the rows or columns of one head",
        "As trace, for one attention head. A head that stands out has samples that disagree; it need not be "
        "important.",
    ),
    "head_trace_stderr": _stderr(
        "weight head", DISTURBED, "gradient noise of a head", "from the spread of ‖G_i‖² over the samples"
    ),
    "head_gradient_norm2": _measured(
        "weight head", DISTURBED, "squared gradient of a head", "‖ḡ‖² over the rows or columns of one head",
        "Of the batch: it exceeds ‖E G‖² by about head_trace/N.",
    ),
    "total_trace": _measured(
        "", DISTURBED, "total gradient noise", "sum of trace over all recorded parameters",
        "Falling: samples agree more, or all gradients shrink. Parameters that are not recorded are not in it.",
    ),
    "total_trace_stderr": _stderr("", DISTURBED, "total gradient noise", "from the spread of ‖G_i‖² over the samples"),
    "total_gradient_norm2": _measured(
        "", DISTURBED, "squared mean gradient", "Σ‖ḡ‖² − total_trace/N, unbiased for ‖E G‖²",
        "Of the mean over all data, not of the batch. Near 0 or negative: one batch does not tell it from 0.",
    ),
    "noise_scale": _measured(
        "", "samples", "noise scale", "Σ total_trace / Σ total_gradient_norm2 over the last records",
        "Batch size at which noise and signal of the gradient are equal. Larger batches help nearly in proportion "
        "far below it, and hardly far above. It says nothing of what a larger learning rate would do.",
    ),
    "noise_scale_low": _measured(
        "", "samples", "noise scale, lower end", "lower end of the 95 % interval of noise_scale",
        "The noise scale is probably larger.",
    ),
    "noise_scale_high": _measured(
        "", "samples", "noise scale, upper end", "upper end of the 95 % interval of noise_scale",
        "The noise scale is probably smaller; infinite where the signal is not told from 0.",
    ),
}  # fmt: skip
"""Traces of the covariance of the gradients of single samples."""

RANK = {
    "frobenius": _measured(
        "weight", "weight", "norm", "‖W‖_F",
        "The size of the weight. Where a normalisation follows, it only sets the size of a relative step.",
    ),
    "stable_rank": _measured(
        "weight", "1", "stable rank", "‖W‖_F² / s_1²",
        "Falling: the leading direction gains on all others together. Insensitive to small singular values.",
    ),
    "effective_rank_low": _measured(
        "weight", "1", "effective rank, lower bound", "least exp(−Σ p log p), p = s/Σs, for the known s and ‖W‖_F",
        "The effective rank is at least this; equal to the upper bound where all singular values are known.",
    ),
    "effective_rank_high": _measured(
        "weight", "1", "effective rank, upper bound", "largest exp(−Σ p log p), p = s/Σs, for the known s and ‖W‖_F",
        "The effective rank is at most this. Rank was lost for certain where it is below an earlier lower bound.",
    ),
    "log_det": _measured(
        "interface", "1", "log determinant", "log det(ΘᵀΘ), Θ = [W_l, W_{l+1}ᵀ] of neighbouring linear layers",
        "Falling: the interface loses directions. Weight decay alone lowers it too.",
    ),
    "log_det_predicted": _measured(
        "interface", "1", "predicted log determinant",
        "log_det at the start − 2η² Σ ‖J‖², J the gradient of the product of the two layers, summed over steps from "
        "the sampled ones; E‖J‖² = ‖E J‖² + Tr Cov[J]/B",
        "Where log_det follows it, the steps of SGD reduce rank as theory says, once the mean gradient is small by "
        "noise alone; a gap comes from sampled batches that are not typical. For SGD without momentum.",
    ),
}  # fmt: skip
"""Of the weights alone, without data."""

BALANCE = {
    "imbalance": _measured(
        "pair", STEP, "imbalance", "‖u‖² − ‖w‖² of two parts with ℓ(λu, w/λ) = ℓ(u, w)",
        "0: the two parts have equal norms. Positive: the first is larger. Noise balances noise, not norms: it need "
        "not end at 0.",
    ),
    "imbalance_identity": _measured(
        "pair", STEP, "imbalance by its identity",
        "imbalance at the start + Σ η²(‖g_u‖² − ‖g_w‖²) over all steps, with decay and momentum",
        "Equal to the imbalance to rounding: the symmetry holds and the optimizer is understood. Apart: it does not.",
    ),
    "balance_noise": _measured(
        "pair", CHANGE, "noise part of the change of balance", "(η²/N)(Tr Cov[G_u] − Tr Cov[G_w])",
        "Of the opposite sign as the imbalance: noise balances the pair; of the same sign: it starves the smaller "
        "part.",
    ),
    "balance_gradient": _measured(
        "pair", CHANGE, "gradient part of the change of balance", "η²(‖E G_u‖² − ‖E G_w‖²)",
        "What full-batch descent would do too; beyond the noise scale it is the larger part.",
    ),
    "balance_decay": _measured(
        "pair", CHANGE, "decay part of the change of balance", "−2ηγ(‖u‖² − ‖w‖²) to first order",
        "Weight decay always pulls the imbalance to 0.",
    ),
    "balance_stderr": _stderr("pair", CHANGE, "predicted change of balance", "of the sum of its three parts"),
    "imbalance_predicted": _measured(
        "pair", STEP, "predicted imbalance",
        "imbalance at the start + the predicted changes per step, interpolated between records",
        "Within its error of the imbalance: noise, gradient and decay explain the change; outside: steps differ from "
        "the samples.",
    ),
    "imbalance_predicted_stderr": _stderr("pair", STEP, "predicted imbalance", "√Σ of the squared errors of its terms"),
    "symmetry": _measured(
        "pair", "1", "violation of the symmetry", "|u·ḡ_u − w·ḡ_w| relative to its terms",
        "Rounding: the pair can be rescaled without changing the loss. Larger: the law of balance does not hold for "
        "it.",
    ),
    "balance_jump": _measured(
        "pair", "1", "unexplained jump", "1 where the samples do not explain the change since the last record, else 0",
        "1: something happened between two records, such as an excursion of the loss; predictions after it start "
        "from a miss.",
    ),
}  # fmt: skip
"""Of pairs that can be rescaled against each other."""

VARIABLES: dict[str, Measured] = MODES | {"status": STATUS} | NOISE | RANK | BALANCE
"""By name; what nobody recorded is absent from a dataset, what one record lacks is NaN in it."""

COORDINATES = {
    "step": Variable(("step",), "step", "step", "number of updates of the weights before this one"),
    "batch_size": Variable(
        ("step",), "samples", "batch size", "samples in the step, over all micro-batches and processes"
    ),
    "lr": Variable(("step",), "", "learning rate", "of the step; NaN where it is not known"),
    "weight": Variable(("weight",), "1", "weight", "name of the parameter, as a matrix"),
    "parameter": Variable(("parameter",), "1", "parameter", "name of the parameter"),
    "pair": Variable(("pair",), "1", "pair", "name of the pair that can be rescaled"),
    "interface": Variable(("interface",), "1", "interface", "names of two neighbouring linear layers"),
    "mode": Variable(("mode",), "1", "mode", "singular direction of the weight, largest singular value first"),
    "control": Variable(("control",), "1", "control", "random direction, fixed for the training"),
    "head": Variable(("head",), "1", "head", "attention head, from 0"),
}
