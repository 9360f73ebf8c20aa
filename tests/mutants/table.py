"""The mistakes that the tests must catch; ``mutants.py`` makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """``old``, which occurs exactly once in ``file``, becomes ``new``; ``test`` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


THEORY, ENGINES = "src/saddlescope/theory", "src/saddlescope/engines"
OBSERVABLES, DATA = "src/saddlescope/observables.py", "src/saddlescope/data"
DEEP_LINEAR, DIAGONAL = "src/saddlescope/networks/deep_linear.py", "src/saddlescope/networks/diagonal.py"
REFERENCE, FINITE = f"{ENGINES}/reference.py", f"{ENGINES}/finite.py"

MUTANTS = (
    # --- theory
    Mutant(
        "mode SDE: half the Itô drift of s",
        f"{THEORY}/mode/coefficients.py",
        "L * (L - 1) / 2 * self.temperature",
        "L * (L - 1) / 4 * self.temperature",
        "tests/exact/test_mode_theory.py::test_both_coordinates_are_one_process",
    ),
    Mutant(
        "mode SDE: T for T/2 in log a",
        f"{THEORY}/mode/log_strength.py",
        "up * noise2(w) / 2)",
        "up * noise2(w))",
        "tests/exact/test_mode_theory.py::test_density_at_depth_two_in_closed_form",
    ),
    Mutant(
        "tail exponent: 2/L for 3/L",
        f"{THEORY}/mode/phases.py",
        "return -5 + 3 / mode.depth",
        "return -5 + 2 / mode.depth",
        "tests/unit/test_theory_phases.py::test_tails",
    ),
    Mutant(
        "gradient flow: half the time at depth 2",
        f"{THEORY}/mode/flow.py",
        "growth / (2 * end))",
        "growth / (4 * end))",
        "tests/unit/test_theory_flow.py::test_curves_solve_their_equation",
    ),
    Mutant(
        "passage: half the variance",
        f"{THEORY}/sde/passage.py",
        "panels.solved(2 * first[:, 1:] ** 2,",
        "panels.solved(first[:, 1:] ** 2,",
        "tests/unit/test_theory_diffusion1d.py::test_passage_of_a_drifted_brownian_motion_is_inverse_gaussian",
    ),
    Mutant(
        "drift of the map: layers exchanged",
        f"{THEORY}/network/end_to_end.py",
        "left[m] @ noise @ right[l]",
        "left[l] @ noise @ right[m]",
        "tests/exact/test_network_theory.py::test_drift_of_the_map",
    ),
    Mutant(
        "label-noise shift: dx for ½(dx + dy)",
        f"{THEORY}/network/end_to_end.py",
        "sums = [0.5 * sum(ends),",
        "sums = [float(ends[0]),",
        "tests/exact/test_network_theory.py::test_label_noise_pushes_down_the_trace_of_the_hessian",
    ),
    Mutant(
        "plateaus: a mode delays itself twice",
        f"{THEORY}/network/plateaus.py",
        "np.where(s > s[:, None], pairs, 0.0)",
        "np.where(s >= s[:, None], pairs, 0.0)",
        "tests/exact/test_network_theory.py::test_growth_of_one_mode_is_that_of_its_sde",
    ),
    Mutant(
        "critical batch: stronger modes are never learned",
        f"{THEORY}/network/plateaus.py",
        "waiting * pair + (1 - waiting) * learned",
        "pair",
        "tests/unit/test_theory_plateaus.py::test_critical_batch_sizes_of_small_steps_and_starts",
    ),
    Mutant(
        "rate of the determinant: T for 2T",
        f"{THEORY}/network/determinant.py",
        "-2 * temperature * variance -",
        "-temperature * variance -",
        "tests/exact/test_determinant_theory.py::test_eigenvalues_and_determinant_agree",
    ),
    Mutant(
        "repulsion of eigenvalues: λ for 3λ",
        f"{THEORY}/network/determinant.py",
        "own * (own + 3 * other) / gap",
        "own * (own + other) / gap",
        "tests/exact/test_determinant_theory.py::test_eigenvalues_by_second_differences",
    ),
    Mutant(
        "balance of layers: sign of the upper noise",
        f"{THEORY}/network/layers.py",
        "_t(lower) - _t(upper) @ left @ upper",
        "_t(lower) + _t(upper) @ left @ upper",
        "tests/exact/test_network_theory.py::test_balance_of_layers",
    ),
    Mutant(
        "covariance of the gradient: cross term not transposed",
        f"{DATA}/gaussian.py",
        "cross * transposed(cross))",
        "cross * cross)",
        "tests/unit/test_observables.py::test_noise_against_gradients_that_are_really_drawn",
    ),
    Mutant(
        "settled rate: twice the gradient term",
        f"{THEORY}/network/determinant.py",
        "(2 * dim_out * np.trace(sigma) + lr * pull))",
        "(2 * dim_out * np.trace(sigma) + 2 * lr * pull))",
        "tests/exact/test_determinant_theory.py::test_error_that_label_noise_keeps_up",
    ),
    Mutant(
        "regimes: T_c/2 for T_c/3",
        f"{THEORY}/mode/phases.py",
        "if critical / 3 > T:",
        "if critical / 2 > T:",
        "tests/unit/test_theory_phases.py::test_every_regime_is_what_its_density_shows",
    ),
    Mutant(
        "balance of a pair: η for η²",
        f"{THEORY}/balance.py",
        "* before + lr**2 * gained)",
        "* before + lr * gained)",
        "tests/exact/test_balance.py::test_step",
    ),
    # --- observables
    Mutant(
        "excess loss: inputs taken as white",
        "src/saddlescope/data/base.py",
        "(error @ self.sigma * error)",
        "(error * error)",
        "tests/unit/test_observables.py::test_loss_is_the_expected_loss",
    ),
    Mutant(
        "learned modes: the threshold of 0.5",
        OBSERVABLES,
        "THRESHOLDS[-1] * target",
        "THRESHOLDS[0] * target",
        "tests/unit/test_observables.py::test_learned_modes_are_those_beyond_nine_tenths",
    ),
    Mutant(
        "log det: of Θ, not of ΘᵀΘ",
        DEEP_LINEAR,
        "values.append(2 * np.log(",
        "values.append(np.log(",
        "tests/unit/test_observables.py::test_log_det_where_the_layer_is_wide_enough",
    ),
    Mutant(
        "layer noise: √ of the norms",
        DEEP_LINEAR,
        "variance / squares, 1, 2)",
        "variance / np.sqrt(squares), 1, 2)",
        "tests/unit/test_observables.py::test_noise_against_gradients_that_are_really_drawn",
    ),
    Mutant(
        "diagonal: Σ‖o‖² once",
        DIAGONAL,
        ".sum(axis=1) * sum(map(_square, others(weights)))",
        ".sum(axis=1)",
        "tests/exact/test_diagonal.py::test_paths_events_and_observables",
    ),
    Mutant(
        "diagonal: label noise counted as sampling noise",
        f"{DATA}/base.py",
        "share * max(floor - label, 0.0) + label)",
        "share * floor)",
        "tests/unit/test_diagonal_parts.py::test_samples_have_the_noise_of_their_gradients",
    ),
    # --- reference engine
    Mutant(
        "exact batch: B degrees of freedom in every row",
        REFERENCE,
        "streams.chi(batch_size - i)",
        "streams.chi(batch_size)",
        "tests/law/test_sgd_law.py::test_a_step_is_a_batch",
    ),
    Mutant(
        "Langevin: √T for √(T/dt)",
        REFERENCE,
        "math.sqrt(step.temperature / step.dt)",
        "math.sqrt(step.temperature)",
        "tests/law/test_langevin_law.py::test_gradient_noise",
    ),
    Mutant(
        "Langevin: variance 1 on the diagonal of H",
        REFERENCE,
        "[:] *= math.sqrt(0.5)",
        "[:] *= 0.5",
        "tests/law/test_langevin_law.py::test_gradient_noise",
    ),
    Mutant(
        "streams: noise reused after a stop",
        REFERENCE,
        "step=until, words=streams.words))",
        "step=until))",
        "tests/exact/test_invariance.py::test_blocks_looks_and_storing_change_nothing",
    ),
    Mutant(
        "learning time: one step late",
        REFERENCE,
        "np.where(passed, state.step, state.learned)",
        "np.where(passed, state.step + 1, state.learned)",
        "tests/exact/test_events.py::test_learning_times_are_first_passages",
    ),
    Mutant(
        "noise peak: followed up to half of s*",
        REFERENCE,
        "np.isinf(state.learned[:, -1]) & (noise",
        "np.isinf(state.learned[:, 0]) & (noise",
        "tests/exact/test_events.py::test_noise_peaks_lie_before_learning",
    ),
    Mutant(
        "modified equation: η for η/2",
        REFERENCE,
        "0.5 * lr * (2.0**64 * d.imag)",
        "lr * (2.0**64 * d.imag)",
        "tests/exact/test_steps.py::test_order_two_goes_down_the_modified_loss",
    ),
    Mutant(
        "full batches: label noise over n, not √n",
        FINITE,
        "self._label_noise / np.sqrt(len(self._inputs))",
        "self._label_noise / len(self._inputs)",
        "tests/law/test_dataset_law.py::test_mean_and_covariance",
    ),
    Mutant(
        "noise by samples: not centred",
        FINITE,
        " @ self._inputs - error * weights.sum(axis=1)[:, None, None]",
        " @ self._inputs",
        "tests/exact/test_dataset_steps.py::test_langevin_has_the_covariance_of_the_samples",
    ),
    Mutant(
        "shuffling: swaps from the whole order",
        FINITE,
        "np.arange(len(order)), k + streams.below(order.shape[1] - k)",
        "np.arange(len(order)), streams.below(order.shape[1])",
        "tests/law/test_dataset_law.py::test_mean_and_covariance",
    ),
    Mutant(
        "isotropic noise: label noise left out of the trace",
        DEEP_LINEAR,
        "(_square(pulled) + labels) * _square(seen)",
        "_square(pulled) * _square(seen)",
        "tests/law/test_langevin_law.py::test_isotropic_noise_has_the_same_trace_in_every_direction",
    ),
    Mutant(
        "finite population: n for n − 1",
        f"{ENGINES}/step.py",
        "(n - self.batch) / max(n - 1, 1)",
        "(n - self.batch) / n",
        "tests/law/test_dataset_law.py::test_the_noise_that_a_run_shows_is_that_of_its_steps",
    ),
    Mutant(
        "streams: initial weights and noise share a seed",
        "src/saddlescope/kernel/streams.py",
        "_GOLDEN * np.uint64(purpose + 1))",
        "_GOLDEN)",
        "tests/law/test_stream_law.py::test_seeds_members_and_purposes_have_streams_of_their_own",
    ),
    Mutant(
        "gradient flow: sign of a weight of the error",
        f"{ENGINES}/dormand_prince.py",
        "-17253 / 339200",
        "17253 / 339200",
        "tests/order/test_flow_order.py::test_one_step_errs_at_order_six_and_its_estimate_at_order_five",
    ),
    # --- advice and texts
    Mutant(
        "advice: runs with other seeds are other runs",
        "src/saddlescope/simulation/advice.py",
        "replace(plan, seed=0, threads=None)",
        "plan",
        "tests/unit/test_advice.py::test_a_loop_over_seeds_warns_once",
    ),
    Mutant(
        "advice: remembered where a filter has decided",
        "src/saddlescope/simulation/advice.py",
        "        if not _filtered(sentence, module):\n",
        "        if True:\n",
        "tests/unit/test_advice.py::test_what_a_filter_has_decided_is_not_remembered",
    ),
    Mutant(
        "texts: large matrices are decomposed",
        "src/saddlescope/data/base.py",
        "CHEAP = 2e6",
        "CHEAP = 2e12",
        "tests/unit/test_reprs.py::test_a_text_decomposes_no_large_matrix",
    ),
    # --- kernel
    Mutant(
        "kernel, streams: accepted lanes move on a redraw",
        "cpp/simd/rng.hpp",
        "      keep(before, rejected);\n",
        "",
        "tests/exact/test_stream_twins.py::test_indices",
    ),
    Mutant(
        "kernel, Langevin: variance 1 on the diagonal of H",
        "cpp/step/source.hpp",
        "splat<V>(T(1.4142135623730951))",
        "splat<V>(T(1))",
        "tests/exact/test_engines.py::test_paths_events_and_observables",
    ),
    Mutant(
        "kernel, decay: without the schedule's factor",
        "cpp/step/source.hpp",
        "T(1.0 - method.dt * factor * method.decay)",
        "T(1.0 - method.dt * method.decay)",
        "tests/exact/test_steps.py::test_a_step_under_a_schedule_is_that_of_its_learning_rate",
    ),
    Mutant(
        "kernel, events: a stale threshold after a stop",
        "cpp/measure/events.hpp",
        "at(open[a], lane) = here && learned(lane, kThresholds - 1, a) == __builtin_inf() ? -1 : 0;",
        "at(open[a], lane) = here && learned(lane, 0, a) == __builtin_inf() ? -1 : 0;",
        "tests/exact/test_invariance.py::test_blocks_looks_and_storing_change_nothing",
    ),
    Mutant(
        "kernel, data set: every batch from the start of the order",
        "cpp/step/dataset.hpp",
        "    place = step % epoch * batch;\n    if (place == 0)",
        "    place = 0;\n    if (step % epoch == 0)",
        "tests/exact/test_dataset_engines.py::test_paths_and_observables",
    ),
    Mutant(
        "kernel, noise of a mode: layers meet once",
        "cpp/measure/mode_noise.hpp",
        "l == k ? T(1) : T(2)",
        "T(1)",
        "tests/exact/test_engines.py::test_paths_events_and_observables",
    ),
    Mutant(
        "kernel, modified equation: a term of the Hessian is missing",
        "cpp/step/modified.hpp",
        "      transposed(slope[l], down[l], l, below, true);\n",
        "",
        "tests/exact/test_steps.py::test_order_two_goes_down_the_modified_loss",
    ),
    Mutant(
        "kernel, mode SDE: no Itô term in log a",
        "cpp/mode/mode.hpp",
        "set1(mode.depth == 1 ? 0.0 : 0.5)",
        "set1(0.0)",
        "tests/exact/test_mode_kernel.py::test_the_kernel_takes_the_twins_steps",
    ),
    Mutant(
        "kernel, flow: modes learned at the start are missed",
        "cpp/step/flow.hpp",
        "    if (from == 0) events.test(0, false, true);\n",
        "",
        "tests/exact/test_events.py::test_a_mode_can_be_learned_at_the_start",
    ),
    Mutant(
        "kernel, chi: accepted lanes move on a redraw",
        "cpp/simd/rng.hpp",
        "      keep(before, active);\n",
        "",
        "tests/exact/test_stream_twins.py::test_chi",
    ),
    Mutant(
        "kernel, isotropic noise: one output for dy",
        "cpp/step/isotropic.hpp",
        "splat<V>(T(dy))",
        "splat<V>(T(1))",
        "tests/exact/test_engines.py::test_given_normals",
    ),
    Mutant(
        "kernel, accumulate: counted from step 0",
        "cpp/measure/accumulate.hpp",
        "(step - wanted.start) % wanted.every == 0",
        "step % wanted.every == 0",
        "tests/exact/test_accumulate.py::test_engines_count_alike",
    ),
    Mutant(
        "kernel, noise by samples: not centred",
        "cpp/step/dataset.hpp",
        "splat<V>(mean) - weight;",
        "splat<V>(mean);",
        "tests/exact/test_dataset_engines.py::test_given_normals",
    ),
    Mutant(
        "kernel, mode passages: overshoot of a step not corrected",
        "cpp/mode/mode.hpp",
        "nearer = 0.29129857896950536 * spread",
        "nearer = 0.0 * spread",
        "tests/law/test_mode_law.py::test_passage_times",
    ),
    # --- short ways
    Mutant(
        "data set: test samples standardised by themselves",
        "src/saddlescope/data/columns.py",
        "None if test is None else (test / units - first - second) / deviation",
        "None if test is None else (test / units - test.mean(axis=0) / units) / deviation",
        "tests/unit/test_tables.py::test_standardised_by_the_training_samples",
    ),
    Mutant(
        "data set: standardised before the test split",
        "src/saddlescope/data/dataset.py",
        "data = data if test is None else data.split(test, seed)",
        "data = data.standardise() if test is None else data.standardise().split(test, seed)",
        "tests/unit/test_tables.py::test_a_table_of_a_run_file",
    ),
    Mutant(
        "density: normalised over the finite bins",
        "src/saddlescope/engines/correlator.py",
        "counted = histogram.sum(axis=1)",
        "counted = histogram[:, 1:-1].sum(axis=1)",
        "tests/unit/test_once_in_a_run.py::test_a_density_is_the_histogram_per_strength",
    ),
    Mutant(
        "time of learning: without the schedule",
        "src/saddlescope/runs/run.py",
        'method.time(happened["learning_time"])',
        'method.time_step * happened["learning_time"]',
        "tests/unit/test_once_in_a_run.py::test_times_of_learning",
    ),
    Mutant(
        "extension: saves on the grid of the new plan alone",
        "src/saddlescope/simulation/start.py",
        "saves = np.concatenate([old.save_steps, later])",
        "saves = new.save_steps",
        "tests/unit/test_cli.py::test_an_interrupted_extension_resumes",
    ),
    Mutant(
        "Ctrl-C in memory: complete all the same",
        "src/saddlescope/simulation/loop.py",
        "if stop.wanted:  # only after",
        "if stop.wanted and sink.stored:  # only after",
        "tests/unit/test_resume.py::test_ctrl_c_in_memory_returns_what_was_computed",
    ),
    Mutant(
        "log_det: why it is NaN counts one neighbour",
        "src/saddlescope/networks/deep_linear.py",
        "needs = [below + above for",
        "needs = [below for",
        "tests/unit/test_once_in_a_run.py::test_why_a_determinant_is_nan",
    ),
)

BREAKS_IMPORT = Mutant(
    "the copy cannot be imported", "src/saddlescope/__init__.py", '"""', 'raise ImportError("mutant")\n"""', ""
)
