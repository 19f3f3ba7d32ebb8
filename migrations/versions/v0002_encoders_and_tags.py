"""Several encoders in one library, each with a state; tags of items."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("encoders", sa.Column("state", sa.Text, nullable=False, server_default="active"))
    op.create_table(
        "tags",
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("score", sa.Float),
        sa.Column("added_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_tags_name", "tags", ["name"])
