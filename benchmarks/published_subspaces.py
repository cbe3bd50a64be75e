"""Angle between the components of a run and eigenvectors published as bare triplets.

    python benchmarks/published_subspaces.py RUN_FOLDER REFERENCE.mtx

Prints the sine of the largest principal angle between both subspaces, and for the reference the
largest residual of its own vectors against the run's eigenvalues, as far as they go: an angle tells
nothing about who is right, the certificate in run.json does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.numpy
import scipy.linalg

from hpcembed.data import read_matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that `hpcembed run` left")
    parser.add_argument("reference", type=Path, help="published eigenvectors, one per column")
    arguments = parser.parse_args()

    run = json.loads((arguments.run / "run.json").read_text())
    projection = safetensors.numpy.load_file(arguments.run / "projection.safetensors")
    V = projection["components"].T
    published = read_matrix(arguments.reference)
    published = published.toarray() if hasattr(published, "toarray") else np.asarray(published)
    if published.shape != V.shape:
        raise SystemExit(
            f"the run has {V.shape[1]} components of {V.shape[0]} features, the "
            f"reference {published.shape[1]} of {published.shape[0]}"
        )
    Q, _ = np.linalg.qr(published)
    sine = scipy.linalg.svdvals(Q - V @ (V.T @ Q)).max()
    embedding = run["embedding"]
    print(f"{run['dataset']['name']}: k = {V.shape[1]}")
    print(
        f"  ours: largest true residual {max(embedding['residual_norms']):.1e} of lambda_1, "
        f"orthogonality {embedding['orthogonality']:.1e}"
    )
    print(
        f"  published: |W'W - I| {np.abs(published.T @ published - np.eye(V.shape[1])).max():.1e}"
    )
    print(f"  sine of the largest angle between both: {sine:.2e}")


if __name__ == "__main__":
    main()
