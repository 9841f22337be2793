//! reqwest 0.12 under the name of 0.13: one HTTP client and one TLS provider instead of two of each.
//!
//! deltalake's kernel asks for reqwest 0.13 with its feature `rustls`, which is rustls on aws-lc-rs, in a feature list that
//! cannot be turned off; object_store already brings 0.12 on ring. With both providers compiled in, rustls refuses to choose
//! one at run time, and every HTTPS client of the program would have to. The kernel uses reqwest for two things that Forebay
//! does not: Unity catalogs and presigned URLs. What it calls is the same in 0.12, and the build proves it.
//!
//! Remove this crate and its `[patch]` once the kernel's TLS provider can be chosen (its feature `rustls-no-provider`).
pub use reqwest_ring::*;
