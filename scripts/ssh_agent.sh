#!/usr/bin/env bash
# Start a process on another compute node by ssh, and end mpiexec if the connection is lost.
#
#   mpiexec -launcher ssh -launcher-exec scripts/ssh_agent.sh -hosts node1,node2 -n 4 PROGRAM
#
# For Hydra (MPICH, Intel MPI), which does not notice that a compute node has lost its network. ssh asks
# the node every 5 seconds; without 3 answers it ends with status 255, and this script ends mpiexec,
# its parent. Open MPI needs no agent: see mpi_keepalive in mpi_env.sh.
#
#   SSH_CONFIG   configuration file of ssh (default: ssh's own)
set -u

configuration=()
if [[ -n ${SSH_CONFIG:-} ]]; then configuration=(-F "$SSH_CONFIG"); fi
status=0
ssh "${configuration[@]}" -o BatchMode=yes -o ServerAliveInterval=5 -o ServerAliveCountMax=3 "$@" ||
    status=$?
if ((status == 255)); then
    echo "ssh_agent.sh: the connection to a compute node is lost ($*)" | cut -c1-100 >&2
    kill -TERM "$PPID"
fi
exit "$status"
