"""What a library's owner asked of its indices."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("library", sa.Column("index_kind", sa.Text))
    op.add_column("library", sa.Column("memory_budget", sa.BigInteger))
    op.add_column("library", sa.Column("recall", sa.Float))
