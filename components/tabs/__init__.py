"""The tabs, in the order in which they stand: each one file with what it builds, shows and listens to."""
