//! Integration tests.

mod fair_queue;
mod gate;
mod overload;
mod slots;
