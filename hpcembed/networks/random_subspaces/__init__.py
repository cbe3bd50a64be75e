"""Training in random subspaces of the parameters, and the dimension that a task needs."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.random_subspaces.dimension import (
        SubspaceDimension,
        SubspaceTrial,
        random_subspace_dimension,
    )
    from hpcembed.networks.random_subspaces.projections import (
        PROJECTIONS,
        SubspaceProjection,
        make_projection,
    )
    from hpcembed.networks.random_subspaces.training import SubspaceTraining, train_in_subspace

__all__ = [
    "PROJECTIONS",
    "SubspaceDimension",
    "SubspaceProjection",
    "SubspaceTraining",
    "SubspaceTrial",
    "make_projection",
    "random_subspace_dimension",
    "train_in_subspace",
]
