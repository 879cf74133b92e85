"""The log of every lookup: journal, shipping, stores, search, export.

Owns the way of a record from the worker's write(2) to the row that an administrator finds. The journal writes
without any database; everything past it may wait.
"""
