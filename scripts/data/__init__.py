"""Texts of WordNet, and the input states that a host makes of them."""
