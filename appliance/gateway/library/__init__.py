"""What is known of models without loading them, and models that come and go while serving."""
