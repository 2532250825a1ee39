//! Keeps and returns named immutable objects.
