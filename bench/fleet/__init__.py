"""A fleet of small nodes on this machine, measured and simulated."""
