"""How the server is reached: sockets, certificates, and what changes of them while it runs."""
