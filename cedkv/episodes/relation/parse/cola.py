"""CoLA's files: source, label, the linguist's mark and the sentence, tab-separated and without names."""

from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Strength


def _read(text: str) -> Outcome:
    """Only where the mark agrees with the label: `*` for 0, none for 1."""
    rows = [(n, line.split("\t")) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not all(len(row) == 4 and (row[1], row[2].strip() == "*") in {("1", False), ("0", True)} for _, row in rows):
        return None
    if any(row[2].strip() not in ("", "*") for _, row in rows):
        return None
    pairs = [(number, row[3].strip(), row[1]) for number, row in rows]
    return Found(pairs, Strength.SURE, warnings=("the columns with source and mark are left out",))


COLA = Format("cola", "CoLA's columns, label after sentence", _read)
