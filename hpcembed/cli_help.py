"""Examples and exit statuses at the end of ``hpcembed COMMAND --help``.

A test parses every example.
"""

from __future__ import annotations

__all__ = ["EXAMPLES", "EXIT_STATUSES", "epilog"]

EXIT_STATUSES = """\
exit status:
  0    success
  1    a defect of hpcembed; the traceback is printed
  2    an error in the arguments, the data or the installation, in one line
  3    a requested eigenpair is unconverged
  4    no network keeps the accuracy (compress)
  5    the comparison of compress is undecided
  85   stopped by a signal or before the time limit; the work is stored, and a line
       states the command that continues it
  130  interrupted
"""

#: Examples of each command, without the name of the program: arguments and their effect. The empty
#: name stands for the program itself.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("init flowers.csv", "write a commented job for a data file"),
        ("run flowers.toml", "run the job"),
        ("predict runs/flowers new.csv", "predict the class or target of every row of a file"),
    ),
    "init": (
        ("init flowers.csv", "write flowers.toml; the last column holds the class"),
        ("init flowers.csv --label-column species", "name the column of the class"),
        ("init flowers.csv --study", "write study_flowers.toml, for hpcembed study"),
        ("init embeddings.npz --out jobs/embeddings.toml", "write to another file"),
    ),
    "run": (
        ("run jobs/digits.toml", "data, eigenvectors, projection and networks, in one process"),
        ("run jobs/digits.toml --dry-run", "print ranks, memory and engine; run nothing"),
        ("run --resume runs/digits", "continue a run that was stopped or killed"),
        (
            'run jobs/digits.toml --set embedding.n_components=30 --petsc "-eps_view"',
            "override a key, and pass an option to PETSc",
        ),
    ),
    "study": (
        ("study jobs/study_digits.toml", "train for several dimensions and seeds"),
        (
            "study jobs/study_digits.toml --dry-run",
            "print number of trainings, memory and engine; train nothing",
        ),
        (
            'study jobs/study_digits.toml --set \'study.rivals=["lda","dct"]\'',
            "compare other projections as well",
        ),
        (
            "study jobs/study_digits.toml --out runs/digits --report-only",
            "write the report of the trials that are finished",
        ),
    ),
    "compress": (
        ("compress jobs/digits.toml --max-loss 1", "lose at most 1 point of accuracy"),
        ("compress flowers.csv --label-column species", "a data file without a job"),
        ("compress train.csv --test test.csv --label-column species", "test rows in a file"),
    ),
    "compress-model": (
        (
            "compress-model net.onnx --data rows.npy --labels labels.npy --max-loss 0.5",
            "lose at most half a point of accuracy",
        ),
        (
            "compress-model net.onnx --data rows.npy --budget parameters=0.5",
            "keep half of the parameters",
        ),
    ),
    "complete": (
        ("complete ratings.csv", "hold out a tenth of the ratings and report the error"),
        ("complete ratings.csv --rank 20 --out runs/ratings", "keep the model"),
    ),
    "export": (
        ("export runs/digits --out digits-model", "the best network on the embedding"),
        (
            "export runs/digits --out small-model --network embedded-64-64",
            "a network by its name",
        ),
    ),
    "report": (
        ("report runs/digits --map", "write runs/digits/figures/map.png"),
        ("report runs/digits --map --rows 5000 --seed 1", "fewer rows, another map"),
    ),
    "predict": (
        ("predict runs/digits new.csv", "print row, class and probability as CSV"),
        ("predict digits-model new.npy --out classes.csv", "write a file"),
        (
            "predict digits-model test.npy --labels test_labels.npy --out classes.csv",
            "print the accuracy as well",
        ),
    ),
    "info": (("info", "versions, MPI library, PETSc build, threads, missing parts"),),
    "doctor": (
        ("doctor", "one line for each finding, with its remedy"),
        ("doctor --out /scratch/runs --json", "another output folder; findings as JSON"),
    ),
    "completion": (
        ("completion bash > ~/.local/share/bash-completion/completions/hpcembed", "bash"),
        ('completion zsh > "${fpath[1]}/_hpcembed"', "zsh"),
        ("completion fish > ~/.config/fish/completions/hpcembed.fish", "fish"),
    ),
    "bench": (
        ("bench eigensolvers --help", "arguments of the comparison of eigensolvers"),
        ("bench pca --help", "arguments of the comparison of PCAs"),
    ),
}
#: Commands that run on several ranks as well.
_PARALLEL = {
    "run": "run jobs/digits.toml",
    "study": "study jobs/study_digits.toml",
    "compress": "compress jobs/digits.toml --max-loss 1",
    "predict": "predict runs/digits new.csv --out classes.csv",
    "report": "report runs/digits --map",
    "info": "info",
    "doctor": "doctor",
}


def epilog(command: str = "") -> str:
    """Return examples of a command, and the exit statuses.

    Examples
    --------
    >>> print(epilog("info").splitlines()[1])
      hpcembed info
    """
    lines = ["examples:"]
    for words, effect in EXAMPLES[command]:
        lines += [f"  hpcembed {words}", f"      {effect}"]
    if command in _PARALLEL:
        lines += [f"  mpiexec -n 4 hpcembed {_PARALLEL[command]}", "      on 4 ranks"]
    return "\n".join([*lines, "", EXIT_STATUSES])
