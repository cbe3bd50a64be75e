"""A writer that is killed at any instant leaves a store whose newest checkpoint is whole."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
from mpi4py import MPI

from miramns.checkpointing import CheckpointStore

WRITER = """
import sys
import numpy as np
from mpi4py import MPI
from miramns.checkpointing import CheckpointStore
store = CheckpointStore(sys.argv[1], {}, MPI.COMM_SELF)
saved = store.newest("x")
turn = 0 if saved is None else saved.state
while True:
    turn += 1
    store.save("x", {"a": np.full((2000, 5), turn)}, shared={"b": np.full(3, turn)}, state=turn)
    print(turn, flush=True)
"""


def test_kills_at_random_instants(tmp_path):
    draw = random.Random(0)
    before = 0
    for _kill in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        printed = [int(writer.stdout.readline())]  # it writes now
        assert printed[0] == before + 1
        time.sleep(0.1 * draw.random())
        os.kill(writer.pid, signal.SIGKILL)
        printed += [int(line) for line in writer.stdout.read().splitlines()]
        writer.wait()
        with CheckpointStore(tmp_path, {}, MPI.COMM_SELF) as store:
            saved = store.newest("x", required=True)
            # none that was reported as written is lost
            assert saved.state in (printed[-1], printed[-1] + 1)
            np.testing.assert_array_equal(saved.rows("a", 0, 2000), saved.state)
            np.testing.assert_array_equal(saved.shared("b"), saved.state)
            before = saved.state
            assert all(not name.startswith(".") for name in os.listdir(tmp_path / "x"))
            assert len(os.listdir(tmp_path / "x")) <= 3  # one not removed yet
