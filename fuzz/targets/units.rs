//! Times, sizes, counts and dollars: any text; what is read is shown and read back as the same.
#![no_main]
use std::fmt::{Debug, Display};
use std::str::FromStr;

use forebay::config::units::{Count, Size, Time, Usd};
use libfuzzer_sys::fuzz_target;

fn back<T: FromStr<Err = String> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(&value), "{value} from {text}");
    }
    let _ = serde_json::Value::from(text).as_str().map(str::parse::<T>);
}

fuzz_target!(|text: &str| {
    back::<Time>(text);
    back::<Size>(text);
    back::<Count>(text);
    back::<Usd>(text);
    for json in [text.to_owned(), format!("{text:?}")] {
        let _ = serde_json::from_str::<Time>(&json);
        let _ = serde_json::from_str::<Count>(&json);
        let _ = serde_json::from_str::<Usd>(&json);
    }
});
