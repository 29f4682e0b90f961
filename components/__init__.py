"""The inspector's parts: one builder per tab, figures from plain data, and the wiring between them. No tensors."""
