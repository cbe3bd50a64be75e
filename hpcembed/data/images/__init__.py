"""Folders of images as tables of pixels."""
