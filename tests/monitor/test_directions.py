"""Leading singular directions against ``torch.linalg.svd``, cold, warm-started and continuous in time."""

import pytest
import torch

from saddlescope.monitor import directions
from saddlescope.monitor.directions import EXTRA, WARM_STEPS, WIDEST, leading

SHAPES = [(40, 60), (60, 40), (10, 90), (90, 10), (1, 30), (30, 1), (9, 9), (1, 1), (3, 200)]
SPECTRA = {"flat": None, "steep": 0.6, "slow": 0.95}
K = 8


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def steps(monkeypatch):
    """Sizes of the small SVDs, one a step: none may grow with the matrix."""
    sizes, svd = [], torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda A, **named: (sizes.append(tuple(A.shape)), svd(A, **named))[1])
    return sizes


def gaussian(gen, *shape):
    return torch.randn(*shape, generator=gen, dtype=torch.float64)


def matrix(gen, m, n, ratio):
    """Gaussian entries, or singular values falling by a constant ratio."""
    W = gaussian(gen, m, n) / max(m, n) ** 0.5
    if ratio is None:
        return W
    U, s, Vh = torch.linalg.svd(W, full_matrices=False)
    return (U * ratio ** torch.arange(len(s), dtype=W.dtype)) @ Vh


def drifted(gen, W, size, rank=None):
    """W and a change of this relative Frobenius norm."""
    m, n = W.shape
    change = gaussian(gen, m, n) if rank is None else gaussian(gen, m, rank) @ gaussian(gen, rank, n)
    return W + change * size * W.norm() / change.norm()


def spectrum(W):
    return torch.linalg.svdvals(W)[:K]


def check_pairs(W, found, tolerance):
    """Orthonormal pairs, ``Wᵀu = sv`` to rounding, residuals as stated, s within them of a singular value and below."""
    W, s = W.to(found.U.dtype), found.s
    eye = torch.eye(len(s), dtype=W.dtype)
    assert torch.allclose(found.U.mT @ found.U, eye, atol=tolerance)
    assert torch.allclose(found.V.mT @ found.V, eye, atol=tolerance)
    assert (W.mT @ found.U - found.V * s).norm() <= tolerance * s[0]
    stated = found.residual * s
    assert torch.allclose((W @ found.V - found.U * s).norm(dim=0), stated, atol=tolerance * float(s[0]))
    true = torch.linalg.svdvals(W)[: len(s)]
    assert (s <= true + tolerance * s[0]).all()
    assert ((s[:, None] - torch.linalg.svdvals(W)).abs().min(1).values <= stated + tolerance * s[0]).all()


@pytest.mark.parametrize("ratio", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_cold_start_converges_to_the_svd(gen, m, n, ratio):
    W = matrix(gen, m, n, ratio)
    found = leading(W, K, tolerance=1e-9)
    true = spectrum(W)
    assert found.s.shape == found.residual.shape == found.block.shape == (min(K, m, n),)
    assert found.basis.shape == (n, min(K + EXTRA, m, n))
    assert ((found.s - true).abs() <= 1e-12 * true[0]).all()
    assert ((found.s - true).abs() <= 1e-6 * true).all()
    check_pairs(W, found, 1e-12)
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    overlap = (found.U.mT @ U)[:, : len(true)].diagonal() * (Vh @ found.V)[: len(true)].diagonal()
    assert torch.allclose(overlap, torch.ones_like(overlap), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", SPECTRA.values(), ids=SPECTRA)
def test_default_tolerance_is_met(gen, ratio, dtype):
    W = matrix(gen, 90, 130, ratio).to(dtype)
    found = leading(W, K)
    assert (found.residual <= directions.TOLERANCE).all()
    check_pairs(W, found, 1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(
    ("ratio", "drift", "rank", "most_steps", "error"),
    [
        (None, 0.01, None, 1, 1e-4),
        (None, 0.01, 2, 1, 1e-4),
        (None, 0.1, None, WARM_STEPS, 1e-3),
        (None, 0.1, 2, WARM_STEPS, 1e-3),
        (0.95, 0.01, None, 1, 1e-4),
        (0.95, 0.1, 2, WARM_STEPS, 1e-3),
        (0.6, 0.01, None, 2, 1e-6),
        (0.6, 0.01, 2, 2, 1e-5),
        (0.6, 0.1, None, 3, 1e-4),
        (0.6, 0.1, 2, 3, 1e-4),
    ],
)
def test_warm_steps_follow_the_drift(gen, steps, ratio, drift, rank, most_steps, error):
    W = matrix(gen, 96, 128, ratio)
    warm = leading(W, K, tolerance=1e-6).basis
    moved = drifted(gen, W, drift, rank)
    true = spectrum(moved)
    del steps[:]
    found = leading(moved, K, warm)
    taken = sum(m != n or m >= K + EXTRA for m, n in steps)
    assert taken <= most_steps
    assert ((found.s - true).abs() <= error * true).all()
    assert (found.residual <= 2 * directions.TOLERANCE).all()
    if found.block[-1] == K - 1:  # the residuals stated are those before turns inside blocks
        check_pairs(moved, found, 1e-6)


def test_old_directions_would_not_do(gen):
    W = matrix(gen, 192, 256, None)
    before = leading(W, K, tolerance=1e-6)
    moved = drifted(gen, W, 0.1, 2)
    kept = (moved @ before.V).norm(dim=0)
    assert ((kept - spectrum(moved)).abs() > 1e-2 * spectrum(moved)).any()


def test_no_svd_grows_with_the_matrix(gen, steps):
    leading(gaussian(gen, 2000, 150), K)
    assert max(max(shape) for shape in steps) <= WIDEST


def test_a_direction_that_the_basis_has_missed_is_found():
    W = torch.diag(torch.linspace(2, 1, 40, dtype=torch.float64))
    warm = leading(W, K, tolerance=1e-12).basis
    warm[-1] = 0  # exactly orthogonal to the direction that comes next
    W[-1, -1] = 3
    for _ in range(6):
        found = leading(W, K, warm)
        warm = found.basis
    assert abs(float(found.s[0]) - 3) < 1e-3


def test_signs_follow_the_basis(gen):
    W = matrix(gen, 50, 70, 0.8)
    first = leading(W, K, tolerance=1e-8)
    flips = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1], dtype=torch.float64)
    basis = first.basis.clone()
    basis[:, :K] *= flips
    found = leading(drifted(gen, W, 1e-3), K, basis)
    assert ((found.V * first.V).sum(0) * flips > 0.9).all()
    assert ((found.U * first.U).sum(0) * flips > 0.9).all()


def test_degenerate_directions_are_one_block_and_do_not_jump(gen):
    U, V = (torch.linalg.qr(gaussian(gen, size, 20)).Q for size in (50, 70))
    s = torch.tensor([5.0, 3, 3, 3, 2, 1.5, 1.5, 1.2] + 12 * [0.1], dtype=torch.float64)
    W = (U * s) @ V.mT
    found, jump, raw = leading(W, K), 0.0, 0.0
    assert found.block.tolist() == [0, 1, 1, 1, 2, 3, 3, 4]
    before = torch.linalg.svd(W)[2][:K].mT
    for _ in range(5):
        moved = drifted(gen, W, 1e-6)
        after = leading(moved, K, found.basis)
        bare = torch.linalg.svd(moved)[2][:K].mT
        assert after.block.tolist() == found.block.tolist()
        jump = max(jump, float((after.V - found.V).abs().max()), float((after.U - found.U).abs().max()))
        raw = max(raw, float(((bare * before).sum(0).abs() - 1).abs().max()))
        for b in range(5):  # what belongs to the block as a whole is that of the SVD
            ours, theirs = after.V[:, after.block == b], bare[:, after.block == b]
            assert torch.allclose(ours @ ours.mT, theirs @ theirs.mT, atol=1e-4)
        found, before = after, bare
    assert jump < 1e-4
    assert raw > 0.1


def test_separated_values_are_single_blocks(gen):
    assert leading(matrix(gen, 40, 60, 0.8), K, tolerance=1e-6).block.tolist() == list(range(K))


def test_rank_deficient_matrices_end_at_once(gen, steps):
    W = gaussian(gen, 60, 3) @ gaussian(gen, 3, 80)
    warm = leading(W, K).basis
    del steps[:]
    found = leading(W, K, warm)
    assert len([shape for shape in steps if max(shape) >= K + EXTRA]) == 1
    assert (found.s[3:] < 1e-12 * found.s[0]).all()
    assert torch.allclose(found.s[:3], spectrum(W)[:3])
    assert torch.isfinite(found.residual).all()
    assert len(set(found.block[3:].tolist())) == 1


def test_zero_matrix():
    cold = leading(torch.zeros(20, 30), K)
    warm = leading(torch.zeros(20, 30), K, cold.basis)
    for found in (cold, warm):
        assert (found.s == 0).all()
        assert (found.residual == 0).all()
        assert (found.block == 0).all()
    again = leading(torch.eye(20, 30), K, warm.basis)
    assert torch.allclose(again.s, torch.ones(K), atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_weights_give_nan_and_pass(gen, value):
    W = matrix(gen, 30, 40, 0.8).float()
    basis = leading(W, K).basis
    spoilt = W.clone()
    spoilt[3, 4] = value
    for warm in (None, basis):
        found = leading(spoilt, K, warm)
        assert all(torch.isnan(x).all() for x in (found.U, found.s, found.V, found.residual))
        after = leading(W, K, found.basis)
        assert torch.allclose(after.s, spectrum(W), rtol=1e-3)
    assert torch.equal(leading(spoilt, K, basis).basis, basis)


@pytest.mark.parametrize("scale", [1e-42, 1e-25, 1e15, 1e30, 1e38])
def test_extreme_sizes_raise_nothing(gen, scale):
    W = matrix(gen, 30, 40, 0.8).float() * scale
    found = leading(W, 3, leading(W, 3).basis)
    if scale in (1e-25, 1e15):
        assert torch.allclose(found.s, torch.linalg.svdvals(W)[:3], rtol=1e-3, atol=0)


def test_dtypes_layouts_and_gradients(gen):
    W = matrix(gen, 30, 40, 0.8)
    half = W.to(torch.bfloat16).requires_grad_()
    found = leading(half, 3)
    assert found.U.dtype == torch.float32 and not found.U.requires_grad
    assert torch.allclose(found.s, torch.linalg.svdvals(half.detach().float())[:3], rtol=1e-3)
    strided = matrix(gen, 60, 80, 0.8)[::2, ::2]
    assert torch.allclose(leading(strided, 3, tolerance=1e-9).s, torch.linalg.svdvals(strided)[:3])
    assert torch.allclose(leading(strided.mT, 3, tolerance=1e-9).s, torch.linalg.svdvals(strided)[:3])
    assert leading(torch.zeros(0, 5), K).s.shape == (0,)


def test_a_basis_of_another_shape_or_type_is_no_obstacle(gen):
    W = matrix(gen, 30, 40, 0.8)
    for warm in (torch.ones(7, 7), leading(W, 2).basis, leading(W.float(), K).basis, torch.zeros(40, K + EXTRA)):
        assert torch.allclose(leading(W, K, warm).s, spectrum(W), rtol=1e-3)


def test_global_generator_and_weights_are_left_alone(gen):
    W = matrix(gen, 30, 40, None)
    kept, state = W.clone(), torch.get_rng_state()
    first = leading(W, K)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(W, kept)
    warm = first.basis.clone()
    leading(drifted(gen, W, 0.1), K, first.basis)
    assert torch.equal(first.basis, warm)
    assert torch.equal(leading(W, K).U, first.U)


def test_autocast_and_inference_mode_change_nothing(gen):
    W = matrix(gen, 30, 40, 0.8).float()
    plain = leading(W, K, leading(W, K).basis)
    with torch.autocast("cpu", torch.bfloat16):
        cast = leading(W, K, leading(W, K).basis)
    with torch.inference_mode():
        inferred = leading(W, K, leading(W, K).basis)
    for found in (cast, inferred):
        assert torch.equal(found.U, plain.U) and torch.equal(found.s, plain.s)


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="W must be a matrix, got shape"):
        leading(torch.zeros(3), 1)
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        leading(torch.zeros(3, 3), 0)
