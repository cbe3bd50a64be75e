#!/usr/bin/env bash
# Runs the tests in an environment: scripts/test.sh ENV [options of pytest...]
#
# First those that need one process, then those marked `mpi`: once at each number of ranks, all in
# one MPI job, in which an exception on one rank ends them all. Every job has a time limit.
#
#   TEST_RANKS      numbers of ranks (default: 1 2 3)
#   TEST_TIMEOUT    limit for each job in seconds (default: 1800)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env=$(cd "$1" && pwd)
shift
python=$env/bin/python
read -ra sizes <<<"${TEST_RANKS:-1 2 3}"
seconds=${TEST_TIMEOUT:-1800}
# shellcheck source=scripts/mpi_env.sh
source "$root/scripts/mpi_env.sh"
cd "$root"

# What a test starts itself must be of this environment and this MPI as well.
export VIRTUAL_ENV=$env PATH=$env/bin:$PATH
mpi_select "$python"
# the matrices of the tests are too small for more threads
export OMP_NUM_THREADS=1
mpi_threads 1
# for mpiexec started by a test, which may ask for more ranks than there are cores: Open MPI 4, 5
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
# on a busy machine 2 ranks are more than there are free cores (measured: 10 s in place of minutes)
export OMPI_MCA_mpi_yield_when_idle=1

# Open MPI gives its ranks a terminal, whether there is one or not
if [[ ! -t 1 ]]; then set -- --color=no "$@"; fi

# limited WHAT COMMAND...: runs a command for no longer than the limit
limited() {
    local what=$1 status=0 begin=$SECONDS
    shift
    echo "==> $what"
    if command -v timeout >/dev/null; then
        timeout --kill-after=15 "$seconds" "$@" || status=$?
    else
        "$@" || status=$?
    fi
    if ((status == 124 || status == 137)); then
        echo "==> $what: no end after $seconds s (TEST_TIMEOUT)" >&2
    fi
    echo "==> $what: $((SECONDS - begin)) s, status $status"
    return "$status"
}

limited "one process" "$python" -m pytest -q -m "not mpi" "$@"
for ranks in "${sizes[@]}"; do
    mpi_command "$ranks"
    export HPCEMBED_TEST_RANKS=$ranks
    limited "$ranks rank(s)" "${MPI_COMMAND[@]}" "$python" -m mpi4py -m pytest -q -x -m mpi "$@"
done
