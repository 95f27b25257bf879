"""What each key and each model has used, and what that cost: tokens, machine time, energy."""
