"""Where Alembic begins: the connection comes from `storage.migrations.upgrade`, with its transaction begun."""

from alembic import context

from storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # also on SQLite, where the engine says BEGIN itself
)
context.run_migrations()
