"""The helper that lends this machine to a model on another one."""
