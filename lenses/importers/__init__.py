"""Readers of concept sources that exist elsewhere."""
