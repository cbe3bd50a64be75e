"""Texts in, a document-term matrix out.

Reading: ``reading`` (:func:`read_text`), ``formats`` (the table of formats),
``folders_and_archives`` and ``lines_and_csv`` (one reader class per format), ``documents`` (the
result), ``prediction_texts``. Terms: ``cleaning`` (bytes to text), ``tokens``, ``vocabulary``,
``vectoriser``, ``serialise``. These five import without MPI, because a deployed model needs them;
``vocabulary_learning`` and ``term_relevance``, which sum counts over ranks, are separate modules
for this reason only. ``document_term_tables`` vectorises the training and test documents of a data
set.

To add a format, write a class with the methods of
:class:`~hpcembed.data.text.documents.DocumentReader` and name it in
:data:`~hpcembed.data.text.formats.TEXT_FORMATS` and in the annotation of ``DataSettings.format``
(``hpcembed/data/settings.py``).
"""
