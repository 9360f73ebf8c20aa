"""The right to write a sweep in an object store, for one process at a time: a lease, renewed while it is held.

It is the branch ``lease`` of the repository, whose last commit says who holds it, and until when. Icechunk moves a
branch only from the commit that a session began with, so that one of two processes gets it. A process that was killed
holds it until it ends. One that wakes up later cannot commit, since the sweep has another last commit by then.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from saddlescope.runs import repository
from saddlescope.runs.repository import BRANCH

NAME = "lease"
SECONDS = 60.0
"""How long a lease is valid; it is renewed three times in this time."""

TIDY_AFTER = timedelta(minutes=10)
"""Age of what is removed from an object store: longer than any renewal takes."""


@dataclass(frozen=True)
class Lease:
    """The lease of one process on the repository of a sweep."""

    place: str
    repository: Any
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    released: threading.Event = field(default_factory=threading.Event)

    def take(self, seconds: float) -> None:
        """Take or renew it, or release it (0 seconds); BlockingIOError when another process holds it."""
        import zarr

        session = self.repository.writable_session(NAME)
        group = zarr.open_group(session.store, mode="a")
        holder: dict[str, Any] = dict(group.attrs)
        now = time.time()
        left = float(holder.get("until", 0.0)) - now
        if holder.get("token") != self.token and left > 0:
            raise BlockingIOError(
                f"out {self.place!r} is being written by {holder.get('holder')}; wait for it or give another path "
                f"(if it was killed, its lease ends in {left:.0f} s)"
            )
        name = f"process {os.getpid()} on {socket.gethostname()}"
        group.attrs.put({"holder": name, "until": now + seconds, "token": self.token})
        try:
            session.commit(name)
        except repository.icechunk().ConflictError:
            raise BlockingIOError(f"out {self.place!r} is being written by another process; wait for it") from None

    def keep(self) -> None:
        """Renew it until it is released or lost; an attempt that fails is repeated."""
        while not self.released.wait(SECONDS / 3):
            try:
                self.take(SECONDS)
            except BlockingIOError:
                return
            except Exception:  # such as a network that is down
                continue

    def release(self) -> None:
        """End it now, unless another process has it."""
        self.released.set()
        with suppress(Exception):
            self.take(0.0)


def take(path: Any, overwrite: bool, held: ExitStack) -> tuple[str, bool]:
    """The address of a sweep, leased until ``held`` is closed, and whether a new one can be put there.

    Raises BlockingIOError when another process writes there, FileExistsError when something else is there.
    """
    place = str(path)
    with repository.in_words(place, "nothing had been written yet"):
        made = repository.made(place)
        if NAME not in made.list_branches():
            try:
                made.create_branch(NAME, list(made.ancestry(branch=BRANCH))[-1].id)
            except repository.icechunk().IcechunkError:
                if NAME not in made.list_branches():  # else another process was faster
                    raise
        lease = Lease(place, made)
        lease.take(SECONDS)
    held.callback(lease.release)
    threading.Thread(target=lease.keep, name="saddlescope lease", daemon=True).start()
    return place, _vacant(place, made) or overwrite


def _vacant(place: str, made: Any) -> bool:
    """Whether nothing was committed; FileExistsError for what is not a sweep."""
    import zarr

    if not repository.has_commits(made):
        return True
    with repository.reading(place):
        group = zarr.open_group(made.readonly_session(BRANCH).store, mode="r")
    if "sweep" not in group.attrs:
        raise FileExistsError(f"out {place!r} exists and is not a sweep; give another address")
    return False
