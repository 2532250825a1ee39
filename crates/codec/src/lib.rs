//! Turns data into the bytes of the repository format and back: no I/O, clock, thread or global randomness.
