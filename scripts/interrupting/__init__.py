"""Killing a program that writes a pack, at random moments, and looking at what is there."""
