"""``hpcembed study``: accuracy by dimension, network and seed.

In the order of the data: ``settings``, ``embedded_data`` (rows with certified components),
``trials``, ``trial_inputs``, ``trial_training``, ``result_store``, ``statistics``, ``summary``,
``wording`` (text and tables), ``figures``, ``report``. ``command`` runs them.
"""
