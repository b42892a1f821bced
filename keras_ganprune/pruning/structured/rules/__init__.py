"""Which channels of a layer or operation are the same: one rule for each."""
