"""What the Champion Gate commands share: one file, one concern."""
