"""What slots can be: sparse mixtures of the demonstrations' tokens, or free."""
