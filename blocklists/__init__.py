"""Blocklists: the catalogue, fetching, formats, refresh, and the compiled index.

Owns the way of a name from somebody's list to the index. Must not know who asks, nor what a group blocks.
"""
