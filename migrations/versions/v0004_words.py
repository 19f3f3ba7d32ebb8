"""The words index (SQLite's FTS5), and what it takes words from: keywords and text in pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns and the tables; the index fills when the library is next indexed."""
    op.add_column("library", sa.Column("words_version", sa.Integer))
    op.add_column("images", sa.Column("keywords", sa.JSON))
    op.create_table(
        "ocr",
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
    )
    op.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize='porter ascii')")
