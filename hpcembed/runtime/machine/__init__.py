"""The machine of a job: versions of libraries, threads, memory, network, and indices of PETSc."""
