"""Decoders with a state that is carried from token to token, alone or beside attention."""
