"""The mask as a picture: who sees whom, with the regions named."""

from collections.abc import Sequence
from itertools import groupby

import torch

from cedkv.compressors.gist.mask import Control, Region, gist_mask

_CELL, _MARGIN = 14, 84
_SEEN, _HIDDEN = "#2f6f9f", "#e9edf1"
NAMES = {Region.PAD: "padding", Region.CONTEXT: "context", Region.GIST: "gists", Region.QUERY: "query"}


def mask_cells(regions: Sequence[int], control: Control = "gist", sink: bool = False) -> list[list[bool]]:
    """Whether the token of a row (down) sees that of a column (across)."""
    return (gist_mask(torch.tensor([regions]), control, sink)[0, 0] == 0).tolist()


def region_spans(regions: Sequence[int]) -> list[tuple[str, int, int]]:
    """Name, start and end (exclusive) of each region of a row."""
    spans, start = [], 0
    for region, run in groupby(regions):
        end = start + len(list(run))
        spans.append((NAMES[Region(region)], start, end))
        start = end
    return spans


def row_regions(context: int, gists: int, query: int) -> list[Region]:
    return [Region.CONTEXT] * context + [Region.GIST] * gists + [Region.QUERY] * query


def mask_svg(regions: Sequence[int], control: Control = "gist", sink: bool = False) -> str:
    """The mask as SVG: a square per pair of tokens, regions named at the left and on top, borders between them."""
    cells, size = mask_cells(regions, control, sink), len(regions) * _CELL
    squares = [
        f'<rect x="{_MARGIN + column * _CELL}" y="{_MARGIN + row * _CELL}" width="{_CELL - 1}" height="{_CELL - 1}" '
        f'fill="{_SEEN if sees else _HIDDEN}"/>'
        for row, line in enumerate(cells)
        for column, sees in enumerate(line)
    ]
    words = []
    for name, start, end in region_spans(regions):
        middle, border = _MARGIN + (start + end) * _CELL / 2, _MARGIN + end * _CELL - 0.5
        words += [
            f'<text x="{_MARGIN - 8}" y="{middle + 4}" text-anchor="end">{name}</text>',
            f'<text x="{middle}" y="{_MARGIN - 8}" text-anchor="middle">{name}</text>',
            f'<path d="M{_MARGIN} {border}H{_MARGIN + size}M{border} {_MARGIN}V{_MARGIN + size}" stroke="#7d8590"/>',
        ]
    side = size + _MARGIN + 12
    title = f"who (left) sees whom (top); control: {control}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        f'font-family="sans-serif" font-size="12" role="img"><title>{title}</title>'
        f'<rect width="{side}" height="{side}" fill="#ffffff"/>{"".join(squares + words)}</svg>\n'
    )
