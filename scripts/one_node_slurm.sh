#!/usr/bin/env bash
# Start a SLURM of one compute node on this machine, run a command in it, and end it:
#
#   scripts/one_node_slurm.sh COMMAND [ARGUMENTS...]
#   scripts/one_node_slurm.sh bash -c 'sbatch --wait ...; squeue'
#
# For trials of jobs/slurm.sbatch. As root, in a container or on a machine of your own, with the
# packages slurmctld, slurmd, slurm-client, munge and libpmix-dev (for MPI). Everything is in a
# temporary folder, and the three daemons are ended with the command.
set -euo pipefail

if (($# < 1)); then
    echo "usage: scripts/one_node_slurm.sh COMMAND [ARGUMENTS...]" >&2
    exit 2
fi
for program in munged slurmctld slurmd srun; do
    if ! PATH=$PATH:/usr/sbin command -v "$program" >/dev/null; then
        echo "one_node_slurm.sh: no $program; install slurmctld, slurmd, slurm-client, munge, libpmix-dev" >&2
        exit 2
    fi
done
if ((EUID != 0)); then
    echo "one_node_slurm.sh: the daemons of SLURM need root" >&2
    exit 2
fi

export PATH=$PATH:/usr/sbin
folder=$(mktemp -d /tmp/one-node-slurm.XXXXXX)
chmod 755 "$folder"
mkdir -p "$folder"/{state,spool}
host=$(hostname -s)
cores=$(nproc --all)
started=()
end_all() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap end_all EXIT

dd if=/dev/urandom of="$folder/key" bs=1024 count=1 status=none
chmod 400 "$folder/key"
munged --foreground --force --socket="$folder/munge" --key-file="$folder/key" \
    --pid-file="$folder/munged.pid" --seed-file="$folder/seed" --log-file="$folder/munged.log" \
    >"$folder/munged.out" 2>&1 &
started+=($!)

cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=36817
SlurmdPort=36818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=10
ReturnToService=2
MpiDefault=pmix
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld -D -i >"$folder/slurmctld.out" 2>&1 &
started+=($!)
slurmd -D >"$folder/slurmd.out" 2>&1 &
started+=($!)
for _ in {1..100}; do
    if [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; then break; fi
    sleep 0.2
done
if [[ $(sinfo --noheader --format=%T) != idle ]]; then
    echo "one_node_slurm.sh: the node does not come up" >&2
    tail -5 "$folder"/*.log >&2
    exit 1
fi
"$@"
