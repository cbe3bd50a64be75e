# shellcheck shell=bash
# Functions of setup.sh and setup_source.sh. Source it with `root` (the repository), `env` (the
# folder of the environment) and `log` set.
: "${root:?}" "${env:?}" "${log:?}"

say() { printf 'setup: %s\n' "$*"; }

# fail MESSAGE [REMEDY...]: print the error and its remedies, one per line, and exit
fail() {
    printf 'setup: error: %s\n' "$1" >&2
    shift
    if (($#)); then printf 'setup:   %s\n' "$@" >&2; fi
    exit 1
}

# step TITLE COMMAND...: run a command with its output in the log; print the end of it on failure
step() {
    local title=$1 begin=$SECONDS
    shift
    printf 'setup: %s ... ' "$title"
    printf '\n==> %s\n' "$title" >>"$log"
    if "$@" >>"$log" 2>&1; then
        printf '%d s\n' $((SECONDS - begin))
    else
        printf 'failed\n'
        printf 'setup: error: %s failed; the last lines of %s:\n' "$title" "$log" >&2
        tail -n 12 "$log" | sed 's/^/    /' >&2
        return 1
    fi
}

# stamp_now: print a checksum of the files that define an environment
stamp_now() {
    {
        printf '%s\n' "$root"
        cat "$root/pyproject.toml" "$root"/scripts/setup*.sh "$root"/scripts/environment.sh \
            "$root"/scripts/requirements.py "$root"/hatch_build.py \
            "$root"/hpcembed/operators/native/*.[ch]
    } | cksum
}

stamp_write() { stamp_now >"$env/.hpcembed-stamp"; }

environment_is_complete() {
    [[ -x $env/bin/python && -f $env/.hpcembed-stamp ]] &&
        [[ $(stamp_now) == "$(cat "$env/.hpcembed-stamp")" ]] &&
        (cd / && "$env/bin/python" -c '
import importlib.util, sys
names = "mpi4py petsc4py slepc4py numpy torch pytest xdist ruff hpcembed miramns".split()
sys.exit(any(importlib.util.find_spec(name) is None for name in names))') 2>/dev/null
}

# has_bindings PYTHON: whether it imports supported releases of mpi4py, petsc4py and slepc4py
has_bindings() {
    (cd / && "$1" -c '
import sys
import mpi4py, petsc4py, slepc4py
def release(module):
    return tuple(int(part) for part in module.__version__.split(".")[:2])
assert sys.version_info >= (3, 10)
assert release(petsc4py) >= (3, 18) and release(petsc4py) == release(slepc4py)') 2>/dev/null
}

# install_project EXTRA...: install torch, the requirements of pyproject.toml, EXTRA requirements
# and the project itself (editable) into $env. The bindings to MPI, PETSc and SLEPc must be
# installed: their extra, mpi, is not passed to pip, which would build them.
install_project() {
    local python=$env/bin/python torch requirements
    read -ra torch <<<"${TORCH:-torch==2.13.0}"
    if (cd / && "$python" -c 'import importlib.metadata as m; m.version("torch")') 2>/dev/null; then
        say "torch is installed"
    else
        step "${torch[*]}" "$python" -m pip install "${torch[@]}" "$@" || return 1
    fi
    requirements=$env/requirements.txt
    "$python" "$root/scripts/requirements.py" "$root/pyproject.toml" \
        --build --extra train --extra images --extra onnx --group dev --without torch \
        >"$requirements" || return 1
    step "requirements of pyproject.toml" \
        "$python" -m pip install -r "$requirements" "$@" || return 1
    # Without isolation, this step needs no network.
    step "hpcembed (editable)" "$python" -m pip install --no-build-isolation --no-deps -e "$root"
}

# check_environment: print the versions; fails if two ranks do not form one MPI job
check_environment() {
    local python=$env/bin/python
    # shellcheck source=scripts/mpi_env.sh
    source "$root/scripts/mpi_env.sh"
    mpi_select "$python" || return 1
    mpi_command 2
    (cd / && OMP_NUM_THREADS=1 "${MPI_COMMAND[@]}" "$python" "$root/scripts/check_environment.py" 2)
}
