"""Lenses as other systems store them, made up: what the importers are checked with."""
