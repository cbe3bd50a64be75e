"""Co-occurrence matrices of words and of features, and their mutual information.

``word_cooccurrence`` (words within a window of documents; ``windows`` counts on one rank),
``feature_cooccurrence`` (features of a table that share rows, correlation), ``mutual_information``
(positive pointwise mutual information). ``cooccurrence_matrix`` is their common result, a sparse
matrix distributed by rows, and ``distributed_sum`` sums it from contributions of all ranks.
"""
