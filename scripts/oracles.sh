#!/usr/bin/env bash
# Install the dependency group `oracles` into .venv: packages that results are compared with by tests.
#
# numpy, PyTorch and the bindings to MPI, PETSc and SLEPc keep their releases, and nothing is built.
# A package that cannot be installed is named; its tests are then skipped. The exit status is 0.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
env=$root/.venv
log=$env/oracles.log
python=$env/bin/python
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

if [[ ! -x $python ]]; then fail "$env has no Python" "run make setup first"; fi
: >"$log"
limits=$env/oracles-limits.txt
"$python" -m pip list --format=freeze 2>>"$log" |
    grep -iE '^(numpy|scipy|scikit-learn|torch|pyarrow|mpi4py|petsc4py|slepc4py)==' >"$limits"
while read -r requirement; do
    begin=$SECONDS
    if "$python" -m pip install --only-binary :all: -c "$limits" "$requirement" >>"$log" 2>&1; then
        say "$requirement ... $((SECONDS - begin)) s"
    else
        say "$requirement cannot be installed (log: $log): its tests are skipped"
    fi
done < <("$python" "$root/scripts/requirements.py" "$root/pyproject.toml" \
    --only-groups --group oracles)
