"""``hpcembed compress``: the smallest dimension and network that keep the accuracy."""
