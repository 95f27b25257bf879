"""A hub: what it is asked for, what it has, and what it says instead. Chooses nothing."""
