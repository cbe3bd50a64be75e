#!/usr/bin/env bash
# Create .venv with all requirements of hpcembed; do nothing if it is complete.
#
# PETSc and SLEPc come from the first of these sources that exists:
#   1. the python3 on the PATH, if it imports petsc4py, slepc4py and mpi4py (conda, a cluster's
#      modules). They are used unchanged. If that python3 belongs to a virtual environment, hpcembed
#      is installed into it and .venv is a link to it: mpi4py's wheel finds its MPI only from there;
#   2. packages of Debian or Ubuntu, installed as root or with sudo.
# Without either, the script prints the choices and fails.
#
#   PYTHON   Python of source 1 (default: python3)
#   TORCH    PyTorch for pip (default: torch==2.13.0)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
env=$root/.venv
log=$env/setup.log
python=${PYTHON:-python3}
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

apt_packages=(python3-venv python3-petsc4py-real python3-slepc4py-real python3-mpi4py
    openmpi-bin libopenblas0-pthread)

if environment_is_complete; then
    say "$env is complete"
    exit 0
fi

# debian_bindings KIND...: print the newest folder of Debian's bindings of each KIND
debian_bindings() {
    local kind
    for kind; do
        printf '%s\n' /usr/lib/"$kind"dir/"$kind"[0-9].*/*-real/lib/python3/dist-packages |
            sort -V | tail -n 1
    done
}

# has_debian_bindings: whether Debian's Python imports bindings that hpcembed supports
has_debian_bindings() {
    local folders
    folders=$(debian_bindings petsc slepc | paste -sd :)
    [[ -x /usr/bin/python3 ]] && PYTHONPATH=$folders has_bindings /usr/bin/python3 &&
        /usr/bin/python3 -c 'import ensurepip' 2>/dev/null
}

# apt_install: install apt_packages; fails without root or sudo
apt_install() {
    local become=(env)
    command -v apt-get >/dev/null || return 1
    if [[ $(id -u) != 0 ]]; then
        command -v sudo >/dev/null || return 1
        become=(sudo env)
        # Without a terminal, sudo cannot read a password.
        if [[ ! -t 0 ]]; then become=(sudo -n env); fi
        "${become[@]}" true 2>/dev/null || return 1
    fi
    step "package lists" "${become[@]}" apt-get update || say "using the present lists"
    step "PETSc, SLEPc and Open MPI (apt)" "${become[@]}" DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${apt_packages[@]}"
}

# origin PYTHON: print the installation that PYTHON is, or is a virtual environment of
origin() { "$1" -c 'import sys; print(sys.base_prefix, sys.version_info[:3])' 2>/dev/null; }

# make_environment PYTHON: create a virtual environment with access to PYTHON's packages
make_environment() {
    if [[ -L $env ]]; then rm "$env"; fi
    if [[ -d $env/bin ]] && ! { [[ $(origin "$env/bin/python") == "$(origin "$1")" ]] &&
        grep -qF "$env" "$env/bin/activate"; }; then
        say "$env was created by another Python or in another folder: creating it again"
        rm -rf "$env"
    fi
    mkdir -p "$env"
    step "virtual environment" "$1" -m venv --system-site-packages "$env"
}

# link_folders: add the folders on standard input to the environment's import path
link_folders() {
    local site
    site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cat >"$site/hpcembed-bindings.pth"
}

# adopt_environment FOLDER: make .venv a link to this virtual environment
adopt_environment() {
    if [[ ! $1 -ef $env ]]; then
        rm -rf "$env"
        ln -s "$1" "$env"
    fi
}

# virtual_environment PYTHON: print the folder of its virtual environment, if it has one
virtual_environment() {
    "$1" -c 'import os, sys
if sys.prefix != sys.base_prefix:
    print(os.path.realpath(sys.prefix))' 2>/dev/null
}

if [[ -L $env ]] && has_bindings "$env/bin/python"; then
    # linked by an earlier run
    python=$env/bin/python
elif [[ $(virtual_environment "$python") -ef $env ]]; then
    # .venv is active: use the Python that it was created from
    python=$("$python" -c 'import sys; print(sys._base_executable)')
fi

# a link to a deleted environment
if [[ -L $env && ! -e $env ]]; then rm "$env"; fi
mkdir -p "$env"
: >"$log"
say "creating $env (log: $log)"

if has_bindings "$python"; then
    say "using the PETSc and SLEPc of $(command -v "$python")"
    active=$(virtual_environment "$python")
    if [[ -n $active ]]; then
        say "installing into that environment, $active"
        adopt_environment "$active"
    else
        make_environment "$python" || exit 1
    fi
    if ! has_bindings "$env/bin/python"; then
        # They are outside site-packages, for example on PYTHONPATH.
        (cd / && "$python" -c '
import os, mpi4py, petsc4py, slepc4py
for module in mpi4py, petsc4py, slepc4py:
    print(os.path.dirname(os.path.dirname(os.path.abspath(module.__file__))))') |
            sort -u | link_folders
    fi
elif has_debian_bindings || { apt_install && has_debian_bindings; }; then
    say "using the PETSc and SLEPc of this system's packages"
    make_environment /usr/bin/python3 || exit 1
    debian_bindings petsc slepc | link_folders
else
    [[ -d $env/bin ]] || rm -rf "$env"
    fail "$python imports no petsc4py and slepc4py of release 3.18 or later with real scalars" \
        "run one of these commands, then make setup again:" \
        "  conda install -c conda-forge petsc4py slepc4py mpi4py    (and activate it)" \
        "  sudo apt-get install ${apt_packages[*]}    (Debian 12, Ubuntu 24.04)" \
        "  module load ...    (petsc4py and slepc4py of a cluster)" \
        "  make setup-source    (builds them; needs a C compiler and BLAS)"
fi
has_bindings "$env/bin/python" || fail "$env does not import petsc4py, slepc4py and mpi4py"

# Bindings that were built with numpy 1 do not load with numpy 2, and pyarrow 26 not with numpy 1.
limits=()
if (cd / && "$env/bin/python" -c '
import sys
import numpy, petsc4py
release = tuple(int(part) for part in petsc4py.__version__.split(".")[:2])
# before 3.21 they could not be built with numpy 2
sys.exit(release >= (3, 21) and not numpy.__version__.startswith("1."))'); then
    limits=("numpy<2" "pyarrow<26")
fi
install_project ${limits[@]+"${limits[@]}"} || exit 1
check_environment || fail "the environment does not work" \
    "petsc4py, slepc4py and mpi4py must be built with the MPI of mpiexec"
stamp_write
say "done in $SECONDS s; activate it by: source '$env/bin/activate'"
