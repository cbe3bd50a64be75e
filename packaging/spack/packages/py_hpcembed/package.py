# Spack package of hpcembed, from a checkout of the repository:
#
#   spack repo add packaging/spack
#   spack env create hpcembed && spack env activate hpcembed
#   spack develop --path $PWD py-hpcembed@=0.1.0
#   spack add py-hpcembed@0.1.0 && spack install
#
# A release adds `url`, and sha256 to its version. tests/test_recipes.py compares versions and
# dependencies with pyproject.toml.
from spack_repo.builtin.build_systems.python import PythonPackage

from spack.package import *


class PyHpcembed(PythonPackage):
    """Compact networks from distributed eigenvectors with certified residuals."""

    license("BSD-3-Clause")

    version("0.1.0")

    variant("train", default=True, description="Read data, train networks, write reports")
    variant("mpi", default=True, description="Run jobs with PETSc, SLEPc and MPI")
    variant("images", default=False, description="Read folders of images")
    variant("onnx", default=False, description="Run and compress models of ONNX")
    variant("retrieval", default=False, description="Indexes of neighbours of faiss")
    variant("map", default=False, description="Draw maps of rows with UMAP")
    variant("completion", default=False, description="Completion of the command line")

    # compiled passes over the rows
    depends_on("c", type="build")
    depends_on("py-hatchling@1.27:", type="build")
    depends_on("python@3.10:", type=("build", "run"))
    depends_on("py-numpy@1.26:", type="run")
    depends_on("py-safetensors@0.4:", type="run")

    with when("+train"):
        depends_on("py-scipy@1.11:", type="run")
        depends_on("py-scikit-learn@1.4:", type="run")
        depends_on("py-torch@2.2:", type="run")
        depends_on("py-threadpoolctl@3.2:", type="run")
        depends_on("py-msgspec@0.19:", type="run")
        depends_on("py-jinja2@3.1:", type="run")
        depends_on("py-tabulate@0.9:", type="run")
        depends_on("py-rich@13:", type="run")
        depends_on("py-matplotlib@3.8:", type="run")
        depends_on("py-h5py@3.10:", type="run")
        depends_on("py-pyarrow@15:", type="run")
        depends_on("py-onnx@1.16:", type="run")
        depends_on("py-tomli@2:", type="run", when="^python@:3.10")

    with when("+mpi"):
        depends_on("py-mpi4py@3.1.4:", type="run")
        depends_on("py-petsc4py@3.18:", type="run")
        depends_on("py-slepc4py@3.18:", type="run")
        depends_on("petsc~complex+double+mpi")

    depends_on("py-pillow@10:", type="run", when="+images")
    depends_on("py-onnx@1.16:", type="run", when="+onnx")
    depends_on("py-onnxruntime@1.17:", type="run", when="+onnx")
    depends_on("faiss@1.8:+python", type="run", when="+retrieval")
    depends_on("py-umap-learn@0.5.7:", type="run", when="+map")
    depends_on("py-shtab@1.7:", type="run", when="+completion")

    import_modules = ["hpcembed", "miramns"]
