"""One thread for torch in every test: tiny hosts run faster so, and two test runs do not fight for the cores."""

import torch

torch.set_num_threads(1)
