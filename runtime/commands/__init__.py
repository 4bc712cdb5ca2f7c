"""The commands of `phoropter`, a file for each that is more than a few lines; `runtime.cli` registers them."""
