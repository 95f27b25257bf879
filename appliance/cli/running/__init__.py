"""The server that runs here: what it does, how it is ended, where its log is."""
