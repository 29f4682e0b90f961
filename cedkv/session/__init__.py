"""What a face that serves several users needs between them and the engine: limits, runs by session, comparisons.

Nothing heavy is imported here, so that a page can be shown before torch is there.
"""
