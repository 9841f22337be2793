//! Datasets as versioned tables.
