"""Records with keys of their own: each file reads one public shape and gives None for other records."""
