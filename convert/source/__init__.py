"""What is given as a checkpoint: the folder itself, and which of its files hold the weights."""
