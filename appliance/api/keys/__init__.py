"""Keys of a running server over HTTP, for administrators. Knows no file."""
