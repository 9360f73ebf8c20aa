"""The peers, one per file, each as a competent user would write it from its documentation.

Every function takes a setting, a number of trajectories, a seed, the steps of a block and options, and returns a
function that runs the ensemble from its start: see ``bench.arms.Arm``.
"""
