"""promptfoo's tests: one variable and one `equals` assertion each."""

from typing import Any

from cedkv.episodes.relation.parse.reading import Found, Outcome, Refusal, Strength


def read(items: list[dict[str, Any]]) -> Outcome:
    if not items or not all(isinstance(item.get("vars"), dict) and "assert" in item for item in items):
        return None
    pairs = []
    for number, item in enumerate(items, start=1):
        variables, checks = list(item["vars"].values()), item["assert"]
        equals = (
            [c for c in checks if isinstance(c, dict) and c.get("type") == "equals"] if isinstance(checks, list) else []
        )
        sides = [*variables, *(check.get("value") for check in equals)]
        if len(variables) != 1 or len(equals) != 1 or not all(isinstance(side, str) for side in sides):
            return Refusal(f"test {number} has not one variable and one 'equals' assertion, both texts", Strength.SURE)
        pairs.append((number, sides[0].strip(), sides[1].strip()))
    return Found(pairs, Strength.SURE, ", promptfoo tests")
