"""The picture shows the mask that is used, and names its regions."""

import re
from xml.etree import ElementTree

from cedkv.cli import main
from cedkv.compressors.gist.picture import mask_cells, mask_svg, region_spans, row_regions


def test_mask_visualization():
    regions = row_regions(3, 2, 2)
    assert region_spans(regions) == [("context", 0, 3), ("gists", 3, 5), ("query", 5, 7)]
    cells = mask_cells(regions)
    assert cells[5] == [False, False, False, True, True, True, False] and cells[3][:3] == [True] * 3
    svg = mask_svg(regions)
    root = ElementTree.fromstring(svg)
    squares = [rect.get("fill") for rect in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert [fill == "#2f6f9f" for fill in squares] == [sees for line in cells for sees in line]
    assert re.findall(r">(context|gists|query)<", svg) == ["context", "context", "gists", "gists", "query", "query"]
    assert mask_svg(regions, "full") != svg != mask_svg(regions, "blind")


def test_the_command_draws_it(tmp_path, capsys):
    assert main(["documents", "--mask", str(tmp_path / "mask.svg"), "--control", "blind"]) == 0
    assert "control: blind" in (tmp_path / "mask.svg").read_text()
