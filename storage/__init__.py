"""The configuration database: what administrators decided, and the rows that lists are made of.

Owns the schema, its migrations and one module of functions for each noun. Works the same on SQLite and Postgres.
Must not know who asks, nor what a decision on a lookup looks like; the log of lookups lives elsewhere.
"""
