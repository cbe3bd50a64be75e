#!/usr/bin/env python3
"""Run a command on two compute nodes that are namespaces of this machine.

Usage: scripts/two_nodes.py [options] COMMAND [ARGUMENT...]

Each node has its own network (one interface, ``eth0``), host name (``node1``, ``node2``), process
numbers, shared memory and temporary folder; all other files are shared, as on a cluster. An SSH
server with a temporary key is process 1 of each node. COMMAND runs on ``node1``. Its environment
names the nodes and the agent to Open MPI and to MPICH, so ``mpiexec -n 4 PROGRAM`` starts two ranks
on each node. With ``--lose`` the second node vanishes during the command. At the end the processes
that are left are counted, and all of them are ended.

Needs Linux, root (or the capabilities NET_ADMIN and SYS_ADMIN), and the programs ip (iproute2),
unshare and nsenter (util-linux), sshd and ssh-keygen (openssh-server).

Exit status: that of COMMAND; 77 if this machine does not permit namespaces or lacks a program; 124
after the time limit; 1 if processes were left.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROGRAMS = ("ip", "unshare", "nsenter", "mount", "hostname", "sshd", "ssh", "ssh-keygen")
NODES = ("node1", "node2")
NOT_PERMITTED, TIME_LIMIT = 77, 124
#: Variables of the environment that the shells of both nodes set, as a start-up file does.
SHELL_VARIABLES = (
    *("PATH", "PYTHONPATH", "HOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "OMP_NUM_THREADS"),
    *("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PETSC_OPTIONS"),
)


class NotPermittedError(Exception):
    """A node cannot be made on this machine."""


def called(*command: str) -> None:
    """Run a command that makes a part of a node."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise NotPermittedError(f"{shlex.join(command)}: {reason}")


class TwoNodes:
    """Two compute nodes within a block.

    Parameters
    ----------
    slots : int
        Ranks on each node.
    shared_tmp : bool
        The temporary folder is that of this machine on both nodes.
    loopback_name : bool
        Each node resolves its own name to 127.0.1.1, as Debian's installer configures it.
    """

    def __init__(
        self, slots: int = 2, shared_tmp: bool = False, loopback_name: bool = False
    ) -> None:
        self.slots, self.shared_tmp, self.loopback_name = slots, shared_tmp, loopback_name
        self.folder = Path(tempfile.mkdtemp(prefix="two-nodes-"))
        self.spaces = [f"hpcembed-{os.getpid()}-{node}" for node in NODES]
        subnet = f"10.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"
        self.addresses = [f"{subnet}.{number}" for number in (1, 2)]
        self.roots: list[subprocess.Popen[bytes]] = []
        self.first_processes: list[int] = []
        self.lost: set[int] = set()

    def __enter__(self) -> TwoNodes:
        search = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
        os.environ["PATH"] = search
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        try:
            if missing:
                raise NotPermittedError(f"no {', '.join(missing)} on the PATH")
            self._make_network()
            self._write_files()
            for number in range(2):
                self._start_node(number)
            self._wait_for_servers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # `timeout` sends its signal twice
        for number in range(len(self.first_processes)):
            self.kill(number)
        for root in self.roots:
            root.kill()  # ends the first process of the node too
            root.wait()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)
            shutil.rmtree(Path("/etc/netns") / space, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --------------------------------------------------------------------------- the nodes

    def _make_network(self) -> None:
        """Connect two network namespaces by a cable."""
        for space in self.spaces:
            called("ip", "netns", "add", space)
        names = [f"hpce{os.getpid() % 10**7}{end}" for end in "ab"]
        called("ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for space, name, address in zip(self.spaces, names, self.addresses, strict=True):
            called("ip", "link", "set", name, "netns", space, "name", "eth0")
            called("ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            called("ip", "-n", space, "link", "set", "eth0", "up")
            called("ip", "-n", space, "link", "set", "lo", "up")

    def _write_files(self) -> None:
        """Write names of hosts, keys, and the configuration of SSH."""
        for number, space in enumerate(self.spaces):
            places = dict(zip(NODES, self.addresses, strict=True))
            if self.loopback_name:
                places[NODES[number]] = "127.0.1.1"
            lines = ["127.0.0.1 localhost", *(f"{at} {node}" for node, at in places.items())]
            etc = Path("/etc/netns") / space  # `ip netns exec` puts these files over /etc
            etc.mkdir(parents=True)
            (etc / "hosts").write_text("\n".join(lines) + "\n")
        for name in ("host_key", "user_key"):
            called("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        quoted = [f'"{name}={value}"' for name, value in self._shell().items() if '"' not in value]
        server = [
            f"HostKey {self.folder}/host_key", f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "PermitRootLogin yes", "UsePAM no", "StrictModes no", "PidFile none", "MaxStartups 100",
            f"SetEnv {' '.join(quoted)}",
        ]  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join(server) + "\n")
        client = [
            f"IdentityFile {self.folder}/user_key", "StrictHostKeyChecking no", "LogLevel ERROR",
            f"UserKnownHostsFile {self.folder}/known_hosts", "BatchMode yes",
        ]  # fmt: skip
        (self.folder / "ssh_config").write_text("\n".join(client) + "\n")
        (self.folder / "openmpi_hosts").write_text(
            "".join(f"{node} slots={self.slots}\n" for node in NODES)
        )
        (self.folder / "mpich_hosts").write_text("".join(f"{n}:{self.slots}\n" for n in NODES))

    def _shell(self) -> dict[str, str]:
        """Return the variables that a shell on each node has."""
        kept = {name: os.environ[name] for name in SHELL_VARIABLES if name in os.environ}
        return kept if self.shared_tmp else kept | {"TMPDIR": "/var/tmp"}

    def _start_node(self, number: int) -> None:
        """Start the SSH server of a node as process 1 of its namespaces."""
        Path("/run/sshd").mkdir(exist_ok=True)
        steps = ["mount -t tmpfs tmpfs /dev/shm", f"hostname {NODES[number]}"]
        if not self.shared_tmp:
            steps.append("mount -t tmpfs tmpfs /var/tmp && chmod 1777 /var/tmp")
        server = shutil.which("sshd")
        steps.append(f"exec {server} -D -e -f {self.folder}/sshd_config")
        spaces = ["--uts", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
        log = (self.folder / f"sshd-{NODES[number]}.log").open("wb")
        with log:
            enter = ["ip", "netns", "exec", self.spaces[number], "unshare", *spaces]
            root = subprocess.Popen(
                [*enter, "sh", "-c", " && ".join(steps)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.roots.append(root)
        children = Path(f"/proc/{root.pid}/task/{root.pid}/children")
        end = time.monotonic() + 10
        while time.monotonic() < end and root.poll() is None:
            # the child of `unshare`, not of `ip`, which is replaced by it
            found = children.read_text().split()
            if found and "unshare" in Path(f"/proc/{root.pid}/comm").read_text():
                self.first_processes.append(int(found[0]))
                return
            time.sleep(0.02)
        raise NotPermittedError(f"unshare {' '.join(spaces)}: {self._log(number)}")

    def _log(self, number: int) -> str:
        path = self.folder / f"sshd-{NODES[number]}.log"
        return (path.read_text(errors="replace").strip() or "no message").splitlines()[-1]

    def _wait_for_servers(self) -> None:
        """Connect to both nodes from the first one."""
        for number, node in enumerate(NODES):
            end = time.monotonic() + 15
            probe = self.command(["ssh", "-F", str(self.folder / "ssh_config"), node, "hostname"])
            while True:
                done = subprocess.run(probe, capture_output=True, text=True)
                if done.stdout.split() == [node]:
                    break
                if time.monotonic() > end:
                    reason = (done.stderr.strip() or "no answer").splitlines()[-1]
                    raise NotPermittedError(f"ssh to {node}: {reason}; {self._log(number)}")
                time.sleep(0.1)

    # ----------------------------------------------------------------- commands and failures

    def command(self, words: list[str]) -> list[str]:
        """Return the command that runs `words` on the first node."""
        ssh = f"ssh -F {self.folder}/ssh_config"
        variables = self._shell() | {
            "SSH_CONFIG": f"{self.folder}/ssh_config",
            "OMPI_MCA_plm_rsh_agent": ssh,
            "OMPI_MCA_orte_default_hostfile": f"{self.folder}/openmpi_hosts",
            "PRTE_MCA_plm_ssh_agent": ssh,
            "PRTE_MCA_prte_default_hostfile": f"{self.folder}/openmpi_hosts",
            "HYDRA_LAUNCHER": "ssh",
            "HYDRA_LAUNCHER_EXEC": str(Path(__file__).with_name("ssh_agent.sh").resolve()),
            "HYDRA_HOST_FILE": f"{self.folder}/mpich_hosts",
        }
        assignments = [f"{name}={value}" for name, value in variables.items()]
        enter = [
            "nsenter",
            "--target",
            str(self.first_processes[0]),
            "--all",
            f"--wd={os.getcwd()}",
        ]
        return [*enter, "env", *assignments, *words]

    def kill(self, number: int) -> None:
        """End all processes of a node at once; the kernel closes their connections."""
        self.lost.add(number)
        try:
            os.kill(self.first_processes[number], signal.SIGKILL)
        except ProcessLookupError:
            return

    def cut(self, number: int) -> None:
        """Take the cable out of a node; its processes stay, and no connection is closed."""
        called("ip", "-n", self.spaces[number], "link", "set", "eth0", "down")

    def processes(self) -> list[str]:
        """Return the processes of both nodes, without the SSH servers."""
        found = []
        spaces = {}
        for number, first in enumerate(self.first_processes):
            try:
                spaces[os.readlink(f"/proc/{first}/ns/pid")] = NODES[number]
            except OSError:
                continue  # this node is lost
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in self.first_processes:
                continue
            try:
                node = spaces.get(os.readlink(entry / "ns/pid"))
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if node and words and not name.startswith("sshd"):  # without words: a zombie
                found.append(f"{node}: {entry.name} {words[:100]}")
        return found


def watched(nodes: TwoNodes, options: argparse.Namespace) -> int:
    """Run the command, let the second node vanish, and report."""
    began = time.monotonic()
    lost = threading.Event()
    lost_at: list[float] = []
    process = subprocess.Popen(
        nodes.command(options.command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def lose() -> None:
        if options.lose and not lost.is_set():
            lost.set()
            time.sleep(options.after)
            lost_at.append(time.monotonic())
            (nodes.cut if options.lose == "link" else nodes.kill)(1)
            say(f"node2 is lost ({options.lose}) after {lost_at[0] - began:.1f} s")

    def copy() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            if options.when.encode() in line:
                threading.Thread(target=lose, daemon=True).start()

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    try:
        status = process.wait(options.limit)
    except subprocess.TimeoutExpired:
        say(f"no end after {options.limit:g} s; processes:", *nodes.processes())
        process.kill()
        return TIME_LIMIT
    ended = time.monotonic()
    reader.join(5)
    left = nodes.processes()
    while left and time.monotonic() < ended + options.grace:
        time.sleep(0.2)
        left = nodes.processes()
    say(
        f"status {status} after {ended - began:.1f} s"
        + (f", {ended - lost_at[0]:.1f} s after the loss" if lost_at else "")
        + f"; processes left {time.monotonic() - ended:.1f} s later: {len(left)}",
        *left,
    )
    return status or (1 if left else 0)


def say(*lines: str) -> None:
    """Print lines to standard error."""
    sys.stdout.flush()
    print(f"two_nodes: {lines[0]}", *lines[1:], sep="\n  ", file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="Run a command on two compute nodes that are namespaces of this machine.",
        epilog="example: scripts/two_nodes.py jobs/run_local.sh 4 jobs/digits.toml",
    )
    add = parser.add_argument
    add("--slots", type=int, default=2, help="ranks on each node (default: 2)")
    add("--shared-tmp", action="store_true", help="one temporary folder for both nodes")
    add(
        "--loopback-name",
        action="store_true",
        help="each node resolves its own name to 127.0.1.1, as on Debian",
    )
    add(
        "--lose",
        choices=("processes", "link"),
        help="the second node vanishes: all its processes end, or its network does",
    )
    add("--when", default="", help="text of a line of output that lets it vanish (default: any)")
    add("--after", type=float, default=0.0, help="seconds between that line and the loss")
    add("--limit", type=float, default=600.0, help="seconds until COMMAND is ended (default: 600)")
    add(
        "--grace",
        type=float,
        default=10.0,
        help="seconds in which processes that are left may end (default: 10)",
    )
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args()
    if not options.command:
        parser.error("COMMAND is missing")
    return options


def main() -> int:
    """Return the exit status."""
    options = parsed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with TwoNodes(options.slots, options.shared_tmp, options.loopback_name) as nodes:
            return watched(nodes, options)
    except (NotPermittedError, OSError) as error:
        say(f"two nodes are not possible here: {error}")
        return NOT_PERMITTED


if __name__ == "__main__":
    sys.exit(main())
