"""The operations between convolutions: plain PyTorch references, and Triton kernels of the three that cost time.

`align` spreads anchors' styles over columns (SA-AdaIN), `bias_act` adds noise and bias, bends and clamps,
`resample` is the [1, 3, 3, 1] filter with its ups and downs; `edges` repeats
outermost columns, `stack` outermost rows. All can be differentiated twice.
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
