# shellcheck shell=bash
# Functions for MPI launchers. Source this file:
#
#   mpi_select PYTHON    set MPIEXEC, the launcher of the MPI that PYTHON's mpi4py is linked to,
#                        and MPI_FAMILY (openmpi, hydra or unknown). Without a launcher, print the
#                        reason to standard error and return 1. MPIEXEC set by the user is kept.
#   mpi_command RANKS    set the array MPI_COMMAND to launcher and options; call mpi_select first
#   mpi_keepalive        let Open MPI end the job within a minute of the loss of a compute node;
#                        mpi_select calls it
#   mpi_threads RANKS    set the threads per rank to cores / RANKS, unless the user set them
#   mpi_cores            print the number of cores
#
# Open MPI needs options to start as root and to start more ranks than cores. The launcher of MPICH
# and Intel MPI (Hydra) has no such options and needs none.

mpi_cores() {
    local threads cores
    # nproc would return OMP_NUM_THREADS
    threads=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null ||
        getconf _NPROCESSORS_ONLN)
    cores=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)
    if ((cores < 1 || cores > threads)); then cores=$threads; fi
    printf '%d\n' "$cores"
}

_mpi_family() {
    case $1 in
    *"Open MPI"* | *OpenRTE* | *open-mpi*) echo openmpi ;;
    *HYDRA* | *MPICH* | *mpich* | *MVAPICH* | *"Intel(R) MPI"*) echo hydra ;;
    *) echo unknown ;;
    esac
}

mpi_select() {
    local python=$1 library wanted found base candidate path candidates seen=""
    library=$("$python" -c '
import sys, mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(sys.base_prefix)
print(" ".join(MPI.Get_library_version().split())[:60])') || {
        echo "mpi: $python cannot import mpi4py.MPI" >&2
        return 1
    }
    base=${library%%$'\n'*}
    library=${library#*$'\n'}
    wanted=$(_mpi_family "$library")
    if [[ -n ${MPIEXEC:-} ]]; then
        candidates=("$MPIEXEC")
    else
        candidates=("$(dirname "$python")/mpiexec" "$base/bin/mpiexec" mpiexec
            mpiexec.openmpi mpiexec.mpich mpiexec.hydra)
    fi
    for candidate in "${candidates[@]}"; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        found=$(_mpi_family "$("$path" --version 2>&1)")
        if [[ $wanted == unknown || $found == "$wanted" ]]; then
            export MPIEXEC=$path
            MPI_FAMILY=$found
            if [[ $found == openmpi ]]; then mpi_keepalive; fi
            if [[ $found == openmpi && $(id -u) == 0 ]]; then
                export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
            fi
            return 0
        fi
        seen+=" $path ($found)"
    done
    echo "mpi: no launcher found for the MPI of $python: $library" >&2
    echo "mpi: found:${seen:- none}; put mpiexec of that MPI on the PATH, or set MPIEXEC" >&2
    return 1
}

# Without answers from a compute node for 20 + 4 x 10 seconds, Open MPI ends the job. Its default is
# 8 minutes. (Variables of Open MPI 4, then of Open MPI 5.)
mpi_keepalive() {
    export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-20}
    export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-10}
    export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-4}
    export PRTE_MCA_oob_tcp_keepalive_time=$OMPI_MCA_oob_tcp_keepalive_time
    export PRTE_MCA_oob_tcp_keepalive_intvl=$OMPI_MCA_oob_tcp_keepalive_intvl
    export PRTE_MCA_oob_tcp_keepalive_probes=$OMPI_MCA_oob_tcp_keepalive_probes
}

mpi_command() {
    local ranks=$1
    MPI_COMMAND=("$MPIEXEC" -n "$ranks")
    if [[ $MPI_FAMILY == openmpi ]]; then
        # Binding to a core would put all threads of a rank on it.
        MPI_COMMAND+=(--bind-to none)
        if ((ranks > $(mpi_cores))); then
            MPI_COMMAND+=(--oversubscribe)
            # Ranks that wait give their core to others.
            export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
        fi
    fi
}

mpi_threads() {
    local share=$(($(mpi_cores) / $1))
    share=${OMP_NUM_THREADS:-$((share > 1 ? share : 1))}
    # OMP_NUM_THREADS would also limit the training on rank 0, while the other ranks sleep
    export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-$share}
    export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$share}
}
