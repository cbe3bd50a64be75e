#!/usr/bin/env bash
# Build the documentation site: scripts/docs.sh ENV [options of sphinx-build...]
#
# The group `docs` of pyproject.toml is installed into ENV the first time; `make setup` omits it.
# Warnings are errors. The site is in build/docs; results of the gallery are kept in docs/gallery and
# made again if an example changes (`make clean` removes them).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
env=$(cd "$1" && pwd)
shift
log=$root/build/docs.log
mkdir -p "$root/build"
: >"$log"
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"
python=$env/bin/python

if ! (cd / && "$python" -c 'import furo, myst_parser, numpydoc, sphinx, sphinx_gallery') 2>/dev/null; then
    requirements=$root/build/docs-requirements.txt
    "$python" "$root/scripts/requirements.py" "$root/pyproject.toml" \
        --only-groups --group docs >"$requirements"
    # numpy stays as it is: the bindings to PETSc were built with it.
    "$python" -m pip list --format freeze 2>/dev/null | grep -i '^numpy==' \
        >"$root/build/docs-constraints.txt"
    step "requirements of the documentation" "$python" -m pip install \
        -r "$requirements" -c "$root/build/docs-constraints.txt"
fi
cd "$root"
export OMP_NUM_THREADS=1 MPLBACKEND=Agg
begin=$SECONDS
"$python" -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs "$@"
echo "docs: build/docs/index.html in $((SECONDS - begin)) s"
