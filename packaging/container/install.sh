#!/bin/bash
# Install hpcembed with Debian's PETSc, SLEPc and Open MPI into an environment of its own; for the
# images of packaging/docker and packaging/apptainer.
#
# Usage: install.sh SOURCE TARGET
#
#   SOURCE   folder of the repository, or of a source distribution
#   TARGET   folder of the new environment
#   TORCH    arguments of pip for PyTorch (default: the wheel for the CPU)
#   APT=0    the packages of Debian are installed already
set -euo pipefail

source=$1
target=$2
torch=${TORCH:-torch>=2.2 --index-url https://download.pytorch.org/whl/cpu}

# the C compiler is for the compiled passes, and is removed below
packages=(python3-venv python3-petsc4py-real python3-slepc4py-real python3-mpi4py openmpi-bin
    libopenblas0-pthread)
compiler=(gcc libc6-dev)

if [[ ${APT:-1} != 0 ]]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install -y --no-install-recommends "${packages[@]}" "${compiler[@]}"
fi

/usr/bin/python3 -m venv --system-site-packages "$target"

# Debian keeps the bindings outside of its site-packages
site=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for kind in petsc slepc; do
    printf '%s\n' /usr/lib/"$kind"dir/"$kind"[0-9].*/*-real/lib/python3/dist-packages |
        sort -V | tail -n 1
done >"$site/debian_bindings.pth"

# numpy 1: Debian's bindings are compiled for it
read -ra words <<<"$torch"
"$target/bin/pip" install --no-cache-dir 'numpy<2' "${words[@]}"
"$target/bin/pip" install --no-cache-dir 'numpy<2' "${source}[train,images,onnx,completion]"

if [[ ${APT:-1} != 0 ]]; then
    apt-get purge -y --auto-remove "${compiler[@]}"
    rm -rf /var/lib/apt/lists/*
fi
"$target/bin/hpcembed" --version
