"""Running cells over sequences: schedules, plans, time loops, and their division between threads."""
