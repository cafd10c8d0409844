"""What CUDA's float32 is in this process."""

import torch


def float32_precision() -> list[str]:
    """Of matrix products and of convolutions: `ieee`, `tf32`, or PyTorch's own `none`."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [place.fp32_precision for place in (matmul, cudnn.conv)]
    return ["tf32" if place.allow_tf32 else "ieee" for place in (matmul, cudnn)]  # before 2.9
