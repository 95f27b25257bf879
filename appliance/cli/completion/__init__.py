"""What a shell offers when Tab is pressed, read from the parser of the command line."""
