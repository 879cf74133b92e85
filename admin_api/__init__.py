"""The admin API: HTTP, JSON, bearer tokens.

Owns routes, authentication, problem details and the OpenAPI document. Asks a `Control` for everything that concerns
running processes, and must not know how that is done.
"""
