"""What the commands do: each parses its arguments, hands them on, and prints what comes back.

A module for each kind of thing; `cli` puts them together. Decides nothing.
"""
