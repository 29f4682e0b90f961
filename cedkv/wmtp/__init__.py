"""Weighted multi-token prediction: training a model's weights on the tokens that matter, several tokens ahead."""
