"""What fastnn survives, line by line: `lines.py` has the lines and where each is tried."""
