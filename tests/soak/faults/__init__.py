"""What goes wrong around a server, one module for each kind, each undone at its end."""
