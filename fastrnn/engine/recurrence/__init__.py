"""Cells over sequences: schedules, plans, the time loops, and how threads divide them."""
