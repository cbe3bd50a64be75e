"""Commands that share an MPI job."""

import pytest

from launching import run_commands


@pytest.mark.launch
def test_a_command_that_ends_its_job_keeps_the_results_before_it(tmp_path):
    commands = [["info"], ["runn"], ["copy", "missing", "file"], ["info"]]
    scratch = tmp_path / "job"
    finished, job = run_commands(scratch, 2, [(tmp_path, words) for words in commands], 120)
    assert [one.status for one in finished] == [0, 2]
    assert "ranks              2" in finished[0].out
    assert "invalid choice" in finished[1].err
    assert job.status == 1
    assert "No such file or directory: 'missing'" in job.err
