"""Model files with faults, through all that is done with a model: none takes the parent down."""
