//! The life of one app: configuration, backup, restore.
