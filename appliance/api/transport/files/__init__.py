"""Bodies that are files, and never whole in memory. Knows no endpoint."""
