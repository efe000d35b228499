"""Benchmarks that need a checkout, and the peers that fastnn is compared with. Not installed."""
