"""The first schema: roots, files, items, images, captions, encoders, embeddings, runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "encoders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("runtime", sa.Text, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("fingerprint", name="uq_encoders_fingerprint"),
    )
    op.create_table(
        "library",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("encoder_id", sa.Integer, sa.ForeignKey("encoders.id")),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "roots",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("exclude_dirs", sa.JSON, nullable=False),
        sa.Column("include_hidden", sa.Boolean, nullable=False),
        sa.Column("added_at", sa.DateTime, nullable=False),
        sa.Column("scanned_at", sa.DateTime),
        sa.UniqueConstraint("path", "name", name="uq_roots_path_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content_hash", sa.LargeBinary, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("deleted_at", sa.DateTime),
        sa.UniqueConstraint("kind", "content_hash", name="uq_items_kind_content_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_items_deleted", "items", ["deleted_at"], sqlite_where=sa.text("deleted_at IS NOT NULL")
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("root_id", sa.Integer, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("racy", sa.Boolean, nullable=False),
        sa.Column("content_hash", sa.LargeBinary),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id")),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("missing_since", sa.DateTime),
        sa.UniqueConstraint("root_id", "folder", "name", name="uq_files_root_id_folder_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_files_item_id", "files", ["item_id"])
    op.create_index("ix_files_state", "files", ["state"], sqlite_where=sa.text("state <> 'ok'"))
    op.create_index(
        "ix_files_gone",
        "files",
        ["missing_since"],
        sqlite_where=sa.text("missing_since IS NOT NULL"),
    )
    op.create_table(
        "images",
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("orientation", sa.Integer, nullable=False),
        sa.Column("taken_at", sa.DateTime),
        sa.Column("taken_offset", sa.Integer),
        sa.Column("camera", sa.Text),
        sa.Column("lens", sa.Text),
        sa.Column("latitude", sa.Float),
        sa.Column("longitude", sa.Float),
        sa.Column("perceptual_hash", sa.BigInteger),
    )
    op.create_index("ix_images_taken_at", "images", ["taken_at"])
    op.create_table(
        "captions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
        sa.Column("image_id", sa.Integer, sa.ForeignKey("items.id")),
        sa.Column("file_id", sa.Integer, sa.ForeignKey("files.id")),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("image_ref", sa.Text),
    )
    op.create_index("ix_captions_item_id", "captions", ["item_id"])
    op.create_index("ix_captions_image_id", "captions", ["image_id"])
    op.create_index("ix_captions_file_id", "captions", ["file_id"])
    op.create_index(
        "ix_captions_ref", "captions", ["image_ref"], sqlite_where=sa.text("image_ref IS NOT NULL")
    )
    op.create_table(
        "embeddings",
        sa.Column("encoder_id", sa.Integer, sa.ForeignKey("encoders.id"), primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("crc", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("encoder_id", "row", name="uq_embeddings_encoder_id_row"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("report", sa.JSON),
    )
