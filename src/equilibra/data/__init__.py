"""Readers of the field's formats, datasets and splits."""
