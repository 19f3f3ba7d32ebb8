"""Alembic's entry: runs the migrations on the connection that xsearch hands over."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("xsearch migrates a library when it opens one; run `xsearch status`.")
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
