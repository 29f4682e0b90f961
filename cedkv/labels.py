"""How methods and what stands beside them are called, and which colour they have, where people read and see them.

The page shows it before torch is there.
"""

LABELS = {
    "select": "Select-KV",
    "few_shot": "few-shot",
    "chunked": "chunked",
    "amortised": "amortised",
    "ced": "CED mixture",
    "free": "Free-KV",
}
REFERENCE_LABELS = {
    "base": "base",
    "teacher": "teacher",
    "neutral_token": "a line break",
    "neutral_paragraph": "an ordinary paragraph",
}
# Told apart also by people who do not see red and green, on a light and on a dark page.
COLORS = {
    "base": "#8b949e",
    "teacher": "#3f87d0",
    "ced": "#e0702c",
    "few_shot": "#8f79c9",
    "select": "#4fa39a",
    "free": "#c46a9b",
    "chunked": "#b8860b",
    "neutral_token": "#a3a86b",
    "neutral_paragraph": "#6f9a4a",
}
