"""The peers, each as a competent user writes it from its documentation; one file, one peer.

Every function is given a setting, a number of trajectories, a seed, the steps of a block and its options, and returns
what runs the ensemble from its start: see ``bench.arms.Arm``.
"""
