"""Who commits a sweep on a cluster: a simulation of one committer, and of workers that commit for themselves.

``python benchmarks/commit_queue.py``. A commit to an object store reads the head of the branch, writes for ``commit``
seconds, and takes effect only if the head is still the same (compare-and-swap); otherwise it is tried again.
"""

from __future__ import annotations

import heapq
from collections import deque

import numpy as np

COMMIT = 0.07
"""Seconds of a commit to an object store: 0.05 to 0.095 s were measured on an emulator."""

FULL = 10_000
"""Tasks in a queue that is taken to grow without bound."""


def rivals(workers: int, every: float, commit: float = COMMIT, hours: float = 1.0, seed: int = 0) -> dict[str, float]:
    """Workers that commit for themselves every ``every`` seconds of work: tries a commit, share of time lost.

    A try takes between half and one and a half times ``commit``. A worker that loses starts the next try at once.
    """
    rng, end = np.random.default_rng(seed), 3600 * hours
    events = [(float(start), worker) for worker, start in enumerate(rng.uniform(0, every, workers))]
    heapq.heapify(events)
    read = np.full(workers, -1)  # the head that each worker has read; -1: not committing
    began = np.zeros(workers)
    head, tries, done, lost = 0, 0, 0, 0.0
    while events[0][0] < end:
        now, worker = heapq.heappop(events)
        if read[worker] < 0:
            began[worker] = now
        else:
            tries += 1
            if read[worker] == head:
                head, done, lost = head + 1, done + 1, lost + now - began[worker]
                read[worker] = -1
                heapq.heappush(events, (now + every, worker))
                continue
        read[worker] = head
        heapq.heappush(events, (now + commit * rng.uniform(0.5, 1.5), worker))
    waiting = (now - began[read >= 0]).sum()
    return {"tries a commit": tries / max(1, done), "time lost": (lost + waiting) / (workers * end)}


def alone(
    workers: int, seconds: float, batch: int, each: float, task: float, every: float, commit: float = COMMIT
) -> dict[str, float]:
    """One committer: its load by tasks and commits, and the longest queue of finished tasks, over an hour.

    Tasks of ``batch`` runs of ``seconds`` end at exponential times; one takes ``task`` seconds of the client and
    ``each`` for every run; a commit every ``every`` seconds holds up the client.
    """
    rng, rate, end = np.random.default_rng(0), workers / (seconds * batch), 3600.0
    now = free = 0.0
    queue: deque[float] = deque()
    longest, busy, due = 0, 0.0, every
    while now < end:
        now += rng.exponential(1 / rate)
        while due <= free or due <= now:
            free, busy, due = max(free, due) + commit, busy + commit, due + every
        cost = task + each * batch
        free, busy = max(free, now) + cost, busy + cost
        while queue and queue[0] <= now:
            queue.popleft()
        queue.append(free)
        longest = max(longest, len(queue))
        if longest > FULL:
            break
    return {"load of the client": busy / now, "longest queue": longest}


def main() -> None:
    print("| workers commit for themselves, every | tries a commit | time lost |\n|---|---|---|")
    for every in (60, 300, 600, 1800):
        found = rivals(1000, every)
        print(f"| {every} s | {found['tries a commit']:.1f} | {found['time lost']:.1%} |", flush=True)
    print("\n| one committer, runs of | runs a task | load of the client | longest queue of tasks |\n|---|---|---|---|")
    for seconds, batch in ((0.02, 10), (0.02, 200), (0.02, 1000), (0.2, 1), (0.2, 20), (2, 1), (2, 4), (20, 1)):
        found = alone(1000, seconds, batch, each=2e-5, task=2e-3, every=30)
        longest, load = found["longest queue"], found["load of the client"]
        print(f"| {seconds:g} s | {batch} | {load:.0%} | {'grows' if longest > FULL else longest} |", flush=True)


if __name__ == "__main__":
    main()
