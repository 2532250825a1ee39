//! A PostgreSQL database: one consistent read as streams, restore, scratch clusters.
