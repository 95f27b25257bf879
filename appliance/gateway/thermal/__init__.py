"""Sustained work kept just under the temperature at which the machine would slow down."""
