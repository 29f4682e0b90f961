"""The extractor `g`: from what stands at a template's places to corrections of the closed form.

Most of it is a table: per layer, key/value head and kind of place one log-bias, one gain and one logit, shared by all
relations. What a relation's own keys and values tell comes on top, from slot attention over the places, indifferent
to the order of places and of demonstrations. Its last map begins as zero and so does the table: an extractor that has
learnt nothing is the closed form.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cedkv.compressors.extractor.places import KINDS, SCALARS, Places
from cedkv.slots.corrected import Corrections

# What is corrected: log-bias, gain and logit.
_NUMBERS = 3


@dataclass(frozen=True)
class ExtractorShape:
    """The model's numbers, and the width of what is read of each place."""

    layers: int
    kv_heads: int
    head_dim: int
    width: int = 32


class Extractor(nn.Module):
    """See the module's docstring. Drawn by the seed, so that one seed gives one extractor."""

    def __init__(self, shape: ExtractorShape, seed: int = 0) -> None:
        super().__init__()
        self.shape, width, heads = shape, shape.width, shape.layers * shape.kv_heads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            table = (shape.layers, shape.kv_heads, len(KINDS))
            self.log_bias, self.gain, self.within = (nn.Parameter(torch.zeros(table)) for _ in range(_NUMBERS))
            # Of every layer and head a few numbers; summed, they stay of size one.
            drawn = torch.randn(shape.layers, shape.kv_heads, 2 * shape.head_dim, width)
            self.project = nn.Parameter(drawn / (2 * shape.head_dim * heads) ** 0.5)
            self.embed = nn.Linear(len(KINDS) + SCALARS + width, width)
            self.look = nn.MultiheadAttention(width, 2, batch_first=True)
            self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            self.out = nn.Linear(width, _NUMBERS * heads, bias=False)
            nn.init.zeros_(self.out.weight)

    @property
    def tables(self) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
        return self.log_bias, self.gain, self.within

    def encoder(self) -> list[nn.Parameter]:
        """The parameters that are not the table's."""
        tables = {id(table) for table in self.tables}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def forward(self, places: Places) -> Corrections:
        shared = [table @ places.kinds.mT for table in self.tables]
        known = 1 - places.kinds[:, -1]  # what belongs to no demonstration was never learnt from, and stays as it is
        own = known * self.out(self._read(places)).mT.reshape(_NUMBERS, self.shape.layers, self.shape.kv_heads, -1)
        return Corrections(*(table + number for table, number in zip(shared, own, strict=True)))

    def _read(self, places: Places) -> Float[Tensor, "places width"]:
        told = torch.einsum("lhpd,lhdw->pw", places.vectors, self.project)
        read = self.embed(torch.cat([places.kinds, places.scalars, told], dim=-1))[None]
        normed = self.before(read)
        read = read + self.look(normed, normed, normed, need_weights=False)[0]
        return (read + self.mix(self.after(read)))[0]
