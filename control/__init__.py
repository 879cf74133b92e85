"""The supervisor process: it owns the database, the workers, shipping, refreshing and the admin API.

Owns the order in which things start and stop. Decides nothing about a lookup; that is `policy`, in the workers.
"""
