//! A folder: walk it, read it safely, put it back exactly and safely.
