"""What fastnn survives, line by line: `fault_lines.py` has the lines and where each is tried."""
