"""A graph in, this rank's rows of its symmetric adjacency matrix out.

Types: ``graph`` (edges of a rank, the distributed graph); the options are ``GraphOptions`` of
``hpcembed/data/settings.py``. Reading: ``reading`` (:func:`read_graph`,
:func:`read_labelled_graph`), ``formats`` (the table of formats), one module a format
(``edge_list``, ``matrix_market``, ``npz_archive``), ``node_labels``; ``power_law`` generates
graphs. ``assembly`` makes the adjacency matrix from the edges of all ranks, with ``numbering``
(node ids to numbers), ``components`` (connected components) and ``owner_exchange`` (values
sent to the ranks that own their nodes). ``node_table`` is a graph as the table of a job,
``graph_drawing`` contains the data of a figure of a graph.

To add a format, write a function from a file to :class:`~hpcembed.data.graphs.graph.LocalEdges` and
name it in :data:`~hpcembed.data.graphs.formats.EDGE_READERS` and in the annotation of
``GraphSettings.format`` (``hpcembed/data/settings.py``).
"""
