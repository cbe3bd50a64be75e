"""Jobs on two compute nodes, which are namespaces of this machine (scripts/two_nodes.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MPIEXEC = os.environ.get("MPIEXEC", "mpiexec")
pytestmark = pytest.mark.slow

#: Each part of the package that depends on the compute node of a rank.
PARTS = """
import socket, tempfile
import numpy as np, torch
from mpi4py import MPI
from hpcembed.networks.training.data_parallel.process_group import process_group
from hpcembed.runtime.output.lock import owned_output
from hpcembed.runtime.ranks import ranks_on_compute_node
from hpcembed.runtime.shared_rows import SharedRows
from pathlib import Path
comm = MPI.COMM_WORLD
shared = SharedRows(comm, np.full((comm.rank + 1, 2), comm.rank))
rows = shared.array[:, 0].tolist()
shared.destroy()
with process_group(comm, "cpu") as group:
    total = group.sum(torch.tensor([comm.rank])).item()
with owned_output(comm, Path(OUT)):
    marker = Path(OUT).with_name(".out.lock").read_text()
    comm.Barrier()
seen = comm.gather((socket.gethostname(), ranks_on_compute_node(comm), rows, total))
if comm.rank == 0:
    print("seen", seen, '"node1' in marker or '"host":"node1' in marker)
"""
LOOP = """
import time
from mpi4py import MPI
step = 0
while True:
    MPI.COMM_WORLD.allreduce(1)
    step += 1
    if MPI.COMM_WORLD.rank == 0:
        print("step", step, flush=True)
    time.sleep(0.1)
"""


def on_two_nodes(program: Path, *options: str, limit: int = 120) -> subprocess.CompletedProcess:
    """Run a program on two ranks of each node; skip the test where nodes are not possible."""
    command = [sys.executable, ROOT / "scripts/two_nodes.py", *options, "--limit", str(limit)]
    command += [MPIEXEC, "-n", "4", sys.executable, "-m", "mpi4py", program]
    dropped = ("OMPI_COMM", "OMPI_UNIVERSE", "PMIX_", "PMI_", "HYDI_", "HYDRA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {
        **{"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
        **{"OMP_NUM_THREADS": "1", "OMPI_MCA_oob_tcp_keepalive_time": "5"},
        **{"OMPI_MCA_oob_tcp_keepalive_intvl": "2", "OMPI_MCA_oob_tcp_keepalive_probes": "2"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "solvers"), *sys.path[1:]]),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=limit + 60
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return done


def test_rows_messages_and_locks_are_right_on_two_hosts(tmp_path):
    program = tmp_path / "parts.py"
    program.write_text(PARTS.replace("OUT", repr(str(tmp_path / "out"))))
    # each node takes its own name for 127.0.1.1: gloo must not use that address
    done = on_two_nodes(program, "--loopback-name")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    expected = [(f"node{1 + rank // 2}", 2, rows, 6) for rank in range(4)]
    assert f"seen {expected} True" in done.stdout
    assert not (tmp_path / ".out.lock").exists()


@pytest.mark.parametrize("how", ["processes", "link"])
def test_job_ends_after_the_loss_of_a_node(tmp_path, how):
    program = tmp_path / "loop.py"
    program.write_text(LOOP)
    done = on_two_nodes(program, "--lose", how, "--when", "step 10", "--grace", "20")
    assert done.returncode not in (0, 124), done.stdout + done.stderr
    found = re.search(r"status (\d+) after .* s, (\S+) s after the loss", done.stderr)
    assert found, done.stderr
    assert int(found[1]) != 0
    assert float(found[2]) < 60
    assert "node1: " not in done.stderr  # no process is left
