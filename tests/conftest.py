"""One thread for the arithmetic of every test: tiny hosts run faster so, and runs side by side do not fight."""

import os

# Before numpy comes; the programs that tests start inherit it.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import torch  # noqa: E402

torch.set_num_threads(1)
