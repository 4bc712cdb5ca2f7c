"""Traces of real text, eviction orders, and what replaying the one under the other counts."""
