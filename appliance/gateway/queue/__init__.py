"""When a request has its turn: who waits, how many, in which order and for how long."""
