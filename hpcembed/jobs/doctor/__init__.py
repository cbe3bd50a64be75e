"""``hpcembed doctor``: checks of the installation, the machine and the launcher.

Each module checks one part and returns findings; their texts and remedies are in one table
(:mod:`hpcembed.jobs.doctor.catalogue`). A library that is built for another MPI can end the process
that imports it. Therefore mpi4py, PETSc, SLEPc and PyTorch are first imported in a process of their
own (:mod:`hpcembed.jobs.doctor.library_probe`). All modules work in the small installation.
"""
