"""Entry of ``python -m miramns.bench``."""

import sys
import traceback

from mpi4py import MPI

from miramns.bench.command_line import main

if __name__ == "__main__":
    try:
        STATUS = main()
    except BaseException:  # an error on one rank must end the whole job
        sys.stdout.flush()
        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)
    sys.exit(STATUS)
