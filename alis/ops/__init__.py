"""The operations between convolutions: plain PyTorch references, and Triton kernels for the three slowest.

`align` multiplies columns by anchors' interpolated styles (SA-AdaIN), `bias_act` adds noise and bias and applies the
activation and clamp, `resample` is the [1, 3, 3, 1] filter with up- and down-sampling, `edges` replicates the outermost
columns, `stack` the outermost rows. All can be differentiated twice, and keep the layout of their maps (`layout`).
"""

from alis.ops.align import align
from alis.ops.bias_act import bias_act, bias_act_
from alis.ops.edges import extend, shrink
from alis.ops.resample import blur, down2, up2
from alis.ops.stack import repeat_rows, stack, stack_written

__all__ = [
    "align",
    "bias_act",
    "bias_act_",
    "blur",
    "down2",
    "extend",
    "repeat_rows",
    "shrink",
    "stack",
    "stack_written",
    "up2",
]
