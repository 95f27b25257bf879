"""How fast a server answers: the load that is put on it, and what is read off the answers."""
