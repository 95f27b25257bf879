"""Request fields that several wire formats share. Knows no endpoint."""
