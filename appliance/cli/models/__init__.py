"""A model of this machine, looked at from the command line."""
