#!/usr/bin/env bash
# Makes the tables, records and profiles of docs/eigensolvers:
#
#   benchmarks/eigensolvers.sh DATA_DIR [PART...]
#
# MIRAMns and SLEPc's Krylov-Schur on small problems and the Matrix Market files of DATA_DIR/matrices
# (`usual`), on operators of 50,000 to 300,000 rows on one rank and on two (`large-1`, `large-2`),
# and on three hard problems, once each (`hard-k32`, `hard-la`). One BLAS thread per rank; nothing
# else should run on the machine. Takes about 20 minutes on two cores; with PART... only those parts.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:?benchmarks/eigensolvers.sh DATA_DIR [PART...]}
shift
parts=("$@")
python=${PYTHON:-$root/.venv/bin/python}
out=${OUT:-$root/docs/eigensolvers}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=scripts/mpi_env.sh
source "$root/scripts/mpi_env.sh"
mpi_select "$python"
export OMP_NUM_THREADS=1

large=("random-graph:n=300000" "block-graph:n=120000" "power-law-graph:n=120000"
    "sparse-covariance:rows=200000,columns=50000")
hard=("laplacian-2d:nx=500,ny=500")

# part NAME RANKS ARGUMENTS...: run the benchmark once and copy its results to the documentation
part() {
    local name=$1 ranks=$2
    shift 2
    if ((${#parts[@]})) && [[ " ${parts[*]} " != *" $name "* ]]; then return; fi
    local command=("$python" -m miramns.bench --out "$work/$name" "$@")
    if ((ranks > 1)); then
        mpi_command "$ranks"
        command=("${MPI_COMMAND[@]}" "${command[@]}")
    fi
    echo "==> $name"
    "${command[@]}"
    mkdir -p "$out/$name"
    cp "$work/$name"/{tables.md,records.csv} "$out/$name/"
    cp "$work/$name"/profile-*.png "$out/$name/"
}

part large-1 1 --problems "${large[@]}" --k 10 --methods miramns unchecked ks ks-4k unrestarted
part large-2 2 --problems "${large[@]}" --k 10 --methods miramns unchecked ks
part usual 1 --problems usual --data-dir "$data" --k 5,10 --limit 20 \
    --methods miramns unchecked block ks ks-4k
part hard-k32 1 --problems random-graph:n=300000 --k 32 --repeats 1 --methods miramns unchecked ks
part hard-la 1 --problems random-graph:n=300000 "${hard[@]}" --k 10 --which LA --repeats 1 \
    --limit 200 --methods miramns unchecked ks
