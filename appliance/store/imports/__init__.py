"""Models that other programs, or people, have put on this machine: found, and taken over."""
