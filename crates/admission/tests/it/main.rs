//! Integration tests.

mod fair_queue;
mod gate;
mod slots;
