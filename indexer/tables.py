"""The catalog's tables, in SQLAlchemy Core. Migrations are frozen and never import this module.

The words index is no table of SQLAlchemy: see `xsearch.indexer.sqlite`.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row. `revision` grows with every committed change, so that readers know when what they
# hold in memory is stale. `index_kind`, `memory_budget` (bytes) and `recall` (0 to 1) are what its
# owner asked of its indices, empty where that is left to xsearch. `words_version` is how the
# documents of the words index were made (`documents.VERSION`), empty where not all are there.
library = sa.Table(
    "library",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("encoder_id", sa.Integer, sa.ForeignKey("encoders.id")),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("index_kind", sa.Text),
    sa.Column("memory_budget", sa.BigInteger),
    sa.Column("recall", sa.Float),
    sa.Column("words_version", sa.Integer),
)

# A folder root has the name ''; a single file given by its own path has its folder and name.
# Paths are text as `xsearch.core.paths.to_stored` writes them.
roots = sa.Table(
    "roots",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("exclude_dirs", sa.JSON, nullable=False),
    sa.Column("include_hidden", sa.Boolean, nullable=False),
    sa.Column("added_at", sa.DateTime, nullable=False),
    sa.Column("scanned_at", sa.DateTime),
    sa.UniqueConstraint("path", "name"),
    sqlite_autoincrement=True,
)

# `role` is image, text or sidecar; `state` is ok or failed. `missing_since` marks a file that
# is gone. `racy` says that the file was written so shortly before it was read that an equal
# time stamp does not prove equal content.
files = sa.Table(
    "files",
    metadata,
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
    sa.UniqueConstraint("root_id", "folder", "name"),
    sa.Index("ix_files_item_id", "item_id"),
    sa.Index("ix_files_state", "state", sqlite_where=sa.text("state <> 'ok'")),
    sa.Index("ix_files_gone", "missing_since", sqlite_where=sa.text("missing_since IS NOT NULL")),
    sqlite_autoincrement=True,
)

# Ids are public and never used twice.
items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("content_hash", sa.LargeBinary, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("deleted_at", sa.DateTime),
    sa.UniqueConstraint("kind", "content_hash"),
    sa.Index("ix_items_deleted", "deleted_at", sqlite_where=sa.text("deleted_at IS NOT NULL")),
    sqlite_autoincrement=True,
)

# What people filter by. `taken_at` is the camera's local time, `taken_offset` minutes east of
# UTC where the file records it; `perceptual_hash` is a signed 64-bit pHash. `keywords` is a list.
images = sa.Table(
    "images",
    metadata,
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
    sa.Column("keywords", sa.JSON(none_as_null=True)),
    sa.Index("ix_images_taken_at", "taken_at"),
)

# Where a text item stands and which picture it belongs to. `source` is line, row, sidecar,
# exif, iptc or xmp; the last three have no file of their own. `image_ref` is the absolute path
# that a row of a table names, kept so that a picture indexed later is linked then.
captions = sa.Table(
    "captions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
    sa.Column("image_id", sa.Integer, sa.ForeignKey("items.id")),
    sa.Column("file_id", sa.Integer, sa.ForeignKey("files.id")),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("image_ref", sa.Text),
    sa.Index("ix_captions_item_id", "item_id"),
    sa.Index("ix_captions_image_id", "image_id"),
    sa.Index("ix_captions_file_id", "file_id"),
    sa.Index("ix_captions_ref", "image_ref", sqlite_where=sa.text("image_ref IS NOT NULL")),
)

# `source` is what loads it again: a name or a folder. `generation` names the current vector
# file, `rows` how many of its rows are committed. `state` is active (searched, and kept up to
# date by every run), building (some items have no vector yet; not searched) or retired (left
# as it is until it is compacted away). The library's own encoder is active.
encoders = sa.Table(
    "encoders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False, unique=True),
    sa.Column("dim", sa.Integer, nullable=False),
    sa.Column("runtime", sa.Text, nullable=False),
    sa.Column("precision", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="active"),
)

# Which row of the vector file is an item's; `crc` is the CRC-32 of the row's bytes.
embeddings = sa.Table(
    "embeddings",
    metadata,
    sa.Column("encoder_id", sa.Integer, sa.ForeignKey("encoders.id"), primary_key=True),
    sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
    sa.Column("row", sa.BigInteger, nullable=False),
    sa.Column("crc", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("encoder_id", "row"),
)

# Words that were given to an item, by people (`score` is empty) or by `xsearch tag` (the
# probability, 0 to 1, that the word fits).
tags = sa.Table(
    "tags",
    metadata,
    sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("score", sa.Float),
    sa.Column("added_at", sa.DateTime, nullable=False),
    sa.Index("ix_tags_name", "name"),
)

# The text that can be read in a picture, with the program that read it; empty where there is
# none to read. A picture without a row has not been looked at.
ocr = sa.Table(
    "ocr",
    metadata,
    sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
)

# `state` is running, done, interrupted or failed.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("started_at", sa.DateTime, nullable=False),
    sa.Column("finished_at", sa.DateTime),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("report", sa.JSON),
)
