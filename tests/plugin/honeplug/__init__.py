"""A package of somebody else's: a pass, a target, a metric and a split format for Hone."""
