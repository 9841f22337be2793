//! `forebay schema`: the JSON Schema of the configuration.

use pipeline::Registry;

use super::print_json;
use crate::{Error, config};

pub(super) fn run(registry: &Registry) -> Result<(), Error> {
    print_json(&config::schema::of(registry))
}
