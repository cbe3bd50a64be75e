"""The temporary folder of a call: one on each compute node, all of them removed."""

import pytest

from hpcembed.jobs.compact import temporary_folder
from hpcembed.jobs.compact.temporary_folder import TemporaryFolder


def one_node_for_each_rank(monkeypatch):
    monkeypatch.setattr(temporary_folder, "compute_node", lambda comm: comm.Split(comm.rank))


@pytest.mark.mpi
def test_folders_of_other_compute_nodes_are_removed(comm, shared_tmp, monkeypatch):
    one_node_for_each_rank(monkeypatch)
    folder = TemporaryFolder(comm)
    shared = folder.path
    if comm.rank:  # the same path on another node is another folder
        folder.path = shared_tmp / f"node{comm.rank}" / shared.name
    (folder.path / "study" / "trials").mkdir(parents=True)
    (folder.path / "study" / "trials" / f"rank-{comm.rank}.jsonl").write_text("{}\n")
    comm.Barrier()
    folder.remove_copies()
    comm.Barrier()
    assert folder.path.exists() == (comm.rank == 0)
    comm.Barrier()
    folder.cleanup()
    comm.Barrier()
    assert not shared.exists()


@pytest.mark.mpi
def test_a_folder_that_nodes_share_belongs_to_rank_0(comm, monkeypatch):
    one_node_for_each_rank(monkeypatch)
    folder = TemporaryFolder(comm)
    folder.remove_copies()
    comm.Barrier()
    assert folder.path.exists()
    comm.Barrier()
    with folder:
        pass
    comm.Barrier()
    assert not folder.path.exists()
