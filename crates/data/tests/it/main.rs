//! Datasets as their users see them: files in, versions out.

mod add;
mod bad_input;
mod properties;
mod support;
mod versions;
mod writers;
