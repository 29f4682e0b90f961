"""How this package's own methods are called where people read them; the page shows it before torch is there."""

LABELS = {
    "select": "Select-KV",
    "few_shot": "few-shot",
    "chunked": "chunked",
    "amortised": "amortised",
    "ced": "CED mixture",
    "free": "Free-KV",
}
