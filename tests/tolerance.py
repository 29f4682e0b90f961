"""How far two ways of the same arithmetic may be apart: from the dtype, the depth and the width, not from one machine.

Processors, thread counts and libraries add the terms of a product in different orders. Each order is off by about the
dtype's unit roundoff times the square root of the number of terms, as rounding errors have random signs (Higham and
Mary 2019, "A new approach to probabilistic rounding error analysis"), and what one product is off the next one gets.
A wrong mask, position or key moves the tiny models' answers by a tenth of a nat or more: far above all of these.
"""

import math

import torch

from tests.tiny import LAYERS

# Products one after the other in a decoder layer: projections, rotation, scores, values, output, gate and up, down.
_PRODUCTS_OF_A_LAYER = 7
# The tiny models' longest sums, and the size of their logits.
_WIDTH, _LOGIT = 96, 10.0


def rounding(depth: int, terms: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """What `depth` products in a row of `terms` terms each may cost numbers of a size of about `scale`."""
    return scale * depth * math.sqrt(terms) * torch.finfo(dtype).eps / 2


def forward(layers: int = LAYERS, width: int = _WIDTH) -> float:
    """What a forward in fp32, of a tiny model if nothing is said, may cost log-probabilities, nats, and their KL."""
    return rounding(_PRODUCTS_OF_A_LAYER * layers + 1, width, _LOGIT)


# Of a forward in fp32, as `torch.testing.assert_close` and `torch.allclose` take it.
FORWARD = {"atol": forward(), "rtol": 0.0}
# Of one product: a mixture of keys or values, a sum of weights.
PRODUCT = {"atol": rounding(1, 4 * _WIDTH, _LOGIT), "rtol": rounding(1, 4 * _WIDTH)}
