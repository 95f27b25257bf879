"""Models answer in the terminal: in a conversation (`chat`), or once (`run`)."""
