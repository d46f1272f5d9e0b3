"""What Millstream does in a second, with the limits of the machine measured beside it: `python -m bench`."""
