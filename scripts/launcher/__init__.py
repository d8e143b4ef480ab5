"""Makes the locked environments that scripts/launch.py runs the commands in; the standard library only."""
