"""Where and why a package parts from its source."""
