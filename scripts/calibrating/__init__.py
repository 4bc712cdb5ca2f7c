"""Promises about false positives, held against texts that they were not made on."""
