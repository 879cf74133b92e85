"""The worker process, the data plane: sockets, one query's way, upstreams.

Owns everything between a query's arrival and its answer. Must not know a database: policy comes as a snapshot on
disk, and the log leaves as a journal.
"""
