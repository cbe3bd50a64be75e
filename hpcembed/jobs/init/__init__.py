"""``hpcembed init``: a commented job for a data file or folder."""
