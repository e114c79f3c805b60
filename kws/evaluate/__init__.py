"""Measuring: false-rejection rate against false alarms an hour, with counts, hours and intervals."""
