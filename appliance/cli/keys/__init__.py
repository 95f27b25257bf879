"""`appliance keys`: its arguments, and what it does. Knows no running server."""
