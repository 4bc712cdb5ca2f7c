"""Where a device multiplies matrices in bf16 fast."""

import torch


def multiply_in_bf16(device: torch.device) -> torch.autocast:
    """A context in which matrix products are in bf16, where the device has instructions for it.

    A processor without them takes fifty times as long as in fp32, so there it does nothing.
    """
    is_fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)
