"""The commands of `phoropter`, a file each; `runtime.cli` puts them together.

What is slow to import is imported in the function that needs it: `--help` does not wait for torch.
"""
