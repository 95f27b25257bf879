"""`appliance usage`, and what a server counts usage with."""
