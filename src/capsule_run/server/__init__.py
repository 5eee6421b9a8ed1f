"""Servers: long-lived doors that take calls from other programs. Rank 4; nothing outside `cli` imports them."""
