"""What is trained once and then turns any block into a prefix in one forward."""
