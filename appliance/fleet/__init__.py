"""More than one node: to which one a request goes, and how many a load needs."""
