"""Entry of ``python -m miramns.bench``."""

import sys
import traceback

from mpi4py import MPI

from miramns.bench.command import main

if __name__ == "__main__":
    try:
        STATUS = main()
    except BaseException:  # whatever it is, the other ranks must not wait for this one
        sys.stdout.flush()
        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)
    sys.exit(STATUS)
