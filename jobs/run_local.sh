#!/usr/bin/env bash
# Run a job on this machine:
#
#   jobs/run_local.sh RANKS JOB.toml [options of "hpcembed run"...]
#
# The environment is the active one if hpcembed is installed in it, and .venv of the repository
# otherwise. The script uses the mpiexec of its MPI and divides the cores among the ranks. It keeps
# the values of MPIEXEC, OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and MKL_NUM_THREADS that are set.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/mpi_env.sh
source "$root/scripts/mpi_env.sh"

usage="usage: jobs/run_local.sh RANKS JOB.toml [options of \"hpcembed run\"...]"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    echo "$usage"
    exit 0
fi
if (($# < 2)); then
    echo "$usage" >&2
    exit 2
fi
ranks=$1
job=$2
shift 2
if [[ ! $ranks =~ ^[1-9][0-9]*$ ]]; then
    echo "run_local.sh: RANKS must be a positive number, not '$ranks'" >&2
    exit 2
fi
if [[ ! -f $job ]]; then
    echo "run_local.sh: no job file $job" >&2
    exit 2
fi

# In another folder, because Python imports hpcembed/ of the current folder without an installation.
holds_hpcembed() {
    (cd / && "$1" -c '
import importlib.util, sys
names = "hpcembed miramns mpi4py petsc4py slepc4py torch".split()
sys.exit(any(importlib.util.find_spec(name) is None for name in names))') 2>/dev/null
}

python=$(command -v python3 || true)
if [[ -z $python ]] || ! holds_hpcembed "$python"; then
    python=$root/.venv/bin/python
    if ! holds_hpcembed "$python"; then
        echo "run_local.sh: hpcembed is installed neither in the active environment nor in" \
            "$root/.venv; run: make setup" >&2
        exit 2
    fi
fi

mpi_select "$python"
mpi_command "$ranks"
mpi_threads "$ranks"
exec "${MPI_COMMAND[@]}" "$python" -m hpcembed run "$job" "$@"
