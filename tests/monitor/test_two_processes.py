"""Frameworks with DistributedDataParallel: two processes give the records of one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("two_processes.py")


FRAMEWORKS = {"accelerate": "accelerate", "huggingface": "transformers", "lightning": "lightning"}
"""Names in the script, and packages."""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_two_processes_give_the_records_of_one():
    found = [name for name, package in FRAMEWORKS.items() if importlib.util.find_spec(package)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *found], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in found:
        assert done.stdout.count(f"two processes agree in {name}") == 2
