//! Features that a request leaves out, and that are known here: looked up by the keys that it does say, as they are now.
//!
//! A column of the model is looked up when the request has none of its name and a feature view has one. What is unknown, null or
//! older than its view's time to live is missing, as it would be in the table that the model learnt from. What the request says
//! itself is never replaced. The model, shadows of it and whoever captures answers see the same values.

use contract::{Code, Error};
use predict::backend::Metadata;
use predict::protocol::Input;
use predict::protocol::scoring::Scored;
use predict::tabular::{Cell, Frame};
use predict::{DataType, Field, Signature, Tensor};
use serde_json::Value as Json;

use super::run::Given;
use crate::app::App;
use crate::auth::Caller;
use crate::features::{FeatureColumn, FeatureRows, FeatureStatus, FeatureValue, FeaturesNamed};

/// The feature views that a model's columns are looked up in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// How each is used.
    pub uses: Vec<LookupUse>,
}

/// How a view is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupUse {
    /// What it is called here: a column `NAME__FEATURE` is its feature, whatever others have.
    pub name: String,
    /// The view.
    pub view: String,
    /// Its keys, each with the column of the request that says it.
    pub keys: Vec<(String, String)>,
    /// Its features.
    pub features: Vec<String>,
}

impl Lookup {
    /// The use that has a column, and the feature that it is.
    fn find(&self, column: &str) -> Option<(usize, &str)> {
        let of = |feature: &str, own: &LookupUse| own.features.iter().position(|f| f == feature);
        let named = self.uses.iter().enumerate().find_map(|(at, own)| {
            let feature = column.strip_prefix(&own.name)?.strip_prefix("__")?;
            Some((at, own.features.get(of(feature, own)?)?.as_str()))
        });
        let plain = || {
            let mut all = self.uses.iter().enumerate().filter(|(_, own)| of(column, own).is_some());
            let (at, own) = all.next()?;
            // Which of two it is, only the whole name says.
            all.next().is_none().then_some((at, own.features.get(of(column, own)?)?.as_str()))
        };
        named.or_else(plain)
    }
}

/// A request's columns, as far as they have names.
trait Columned {
    /// The values of a column, as keys of entities are said.
    fn key(&self, name: &str) -> Option<Result<Vec<Json>, Error>>;
    /// Adds a column for that field of the model.
    fn add(&mut self, field: &Field, found: FeatureColumn) -> Result<(), Error>;
    /// Leaves out keys that the model does not take, and puts what it takes in the order of `columns`.
    fn without(&mut self, keys: &[&str], columns: &[Field]);
    /// How many columns are called so.
    fn count(&self, name: &str) -> usize;
}

/// The columns that a model takes, each as a field.
fn columns(signature: &Signature, metadata: &Metadata) -> Vec<Field> {
    match (signature.inputs.as_slice(), metadata.features.as_slice()) {
        ([only], features @ [_, ..]) if only.shape.len() == 2 && only.shape.get(1) != Some(&1) => {
            let one =
                |name: &String| Field { name: name.clone(), shape: vec![-1, 1], datatype: only.datatype };
            features.iter().map(one).collect()
        }
        (inputs, _) => inputs.to_vec(),
    }
}

/// The request with what it leaves out.
///
/// # Errors
/// A key that is not said, or of another type; those of the features.
pub(super) fn fill<'a>(
    app: &App,
    (model, caller): (&str, &Caller),
    given: Given<'a>,
    (signature, metadata): (&Signature, &Metadata),
) -> Result<Given<'a>, Error> {
    let Some(lookup) = app.generation.settings.lookups.get(model) else { return Ok(given) };
    let all = columns(signature, metadata);
    let of = |given: &mut dyn Columned| filled(app, (model, caller, lookup), given, &all);
    match given {
        Given::Tensors(mut inputs) => {
            of(&mut inputs)?;
            Ok(Given::Tensors(inputs))
        }
        Given::Scored(Scored::Frame(mut frame)) => {
            of(&mut frame)?;
            Ok(Given::Scored(Scored::Frame(frame)))
        }
        Given::Scored(Scored::Lists { mut inputs, by_row }) => {
            of(&mut inputs)?;
            Ok(Given::Scored(Scored::Lists { inputs, by_row }))
        }
    }
}

fn filled(
    app: &App,
    (model, caller, lookup): (&str, &Caller, &Lookup),
    given: &mut dyn Columned,
    all: &[Field],
) -> Result<(), Error> {
    let mut missing: Vec<Vec<(&Field, &str)>> = vec![Vec::new(); lookup.uses.len()];
    for field in all.iter().filter(|field| given.count(&field.name) == 0) {
        if let Some((at, feature)) = lookup.find(&field.name)
            && let Some(of) = missing.get_mut(at)
        {
            of.push((field, feature));
        }
    }
    let mut keys: Vec<&str> = Vec::new();
    for (own, wanted) in lookup.uses.iter().zip(missing).filter(|(_, wanted)| !wanted.is_empty()) {
        let mut entities = FeatureRows::with_capacity(own.keys.len());
        for (key, column) in &own.keys {
            if given.count(column) > 1 {
                let m = format!("`{column}` is given twice");
                return Err(Error::new(Code::InvalidRequest, m).param(column.clone()));
            }
            let values = given.key(column).ok_or_else(|| {
                let names: Vec<&str> = wanted.iter().map(|(field, _)| field.name.as_str()).collect();
                let m = format!(
                    "the column `{column}` is missing: it is the key `{key}` by which {} are looked up in the feature view \
                     `{}`; send it, or send these",
                    names.join(", "),
                    own.view
                );
                Error::new(Code::InvalidRequest, m).param(column.clone())
            })??;
            entities.push((key.clone(), values));
        }
        let features = wanted.iter().map(|(_, feature)| (own.view.clone(), (*feature).to_owned()));
        let named = FeaturesNamed::Each(features.collect());
        let store = app.features().ok_or_else(|| {
            Error::new(
                Code::StorageUnavailable,
                "no features are online here: see `features` in the configuration",
            )
        })?;
        let found = store.online(&caller.tenant, &named, &entities)?;
        for ((field, _), column) in wanted.into_iter().zip(found) {
            let there = column.statuses.iter().filter(|s| **s == FeatureStatus::Present).count();
            app.inner.metrics.looked_up(model, there, column.statuses.len() - there);
            given.add(field, column)?;
        }
        keys.extend(own.keys.iter().map(|(_, column)| column.as_str()));
    }
    if !keys.is_empty() {
        given.without(&keys, all);
    }
    Ok(())
}

fn cell(value: FeatureValue) -> Cell {
    match value {
        FeatureValue::Null => Cell::Null,
        FeatureValue::Bool(flag) => Cell::Bool(flag),
        FeatureValue::Int(n) => Cell::Int(n),
        FeatureValue::Float(x) => Cell::Float(x),
        FeatureValue::Text(text) => Cell::Text((*text).to_owned()),
        FeatureValue::Json(json) => Cell::Text(json.to_string()),
    }
}

fn json(cell: &Cell) -> Json {
    match cell {
        Cell::Null => Json::Null,
        Cell::Bool(flag) => (*flag).into(),
        Cell::Int(n) => (*n).into(),
        Cell::Float(x) => (*x).into(),
        Cell::Text(text) => text.as_str().into(),
    }
}

impl Columned for Frame {
    fn count(&self, name: &str) -> usize {
        self.names.iter().flatten().filter(|own| *own == name).count()
    }

    fn key(&self, name: &str) -> Option<Result<Vec<Json>, Error>> {
        let at = self.names.iter().flatten().position(|own| own == name)?;
        Some(Ok(self.columns.get(at)?.iter().map(json).collect()))
    }

    fn add(&mut self, field: &Field, found: FeatureColumn) -> Result<(), Error> {
        self.names.get_or_insert_default().push(field.name.clone());
        self.columns.push(found.values.into_iter().map(cell).collect());
        Ok(())
    }

    fn without(&mut self, _: &[&str], _: &[Field]) {
        // Columns are found by their names.
    }
}

impl Columned for Vec<(Option<String>, Json)> {
    fn count(&self, name: &str) -> usize {
        self.iter().filter(|(own, _)| own.as_deref() == Some(name)).count()
    }

    fn key(&self, name: &str) -> Option<Result<Vec<Json>, Error>> {
        let (_, values) = self.iter().find(|(own, _)| own.as_deref() == Some(name))?;
        let flat = |value: &Json| match value {
            Json::Array(one) if one.len() == 1 => one.first().cloned().unwrap_or_default(),
            other => other.clone(),
        };
        Some(match values {
            Json::Array(all) => Ok(all.iter().map(flat).collect()),
            _ => Err(no_list(name)),
        })
    }

    fn add(&mut self, field: &Field, found: FeatureColumn) -> Result<(), Error> {
        let values = found.values.into_iter().map(|value| {
            let value = json(&match cell(value) {
                Cell::Null if field.datatype == DataType::Bytes => Cell::Text(String::new()),
                cell => cell,
            });
            if field.shape.len() == 1 { value } else { Json::Array(vec![value]) }
        });
        self.push((Some(field.name.clone()), Json::Array(values.collect())));
        Ok(())
    }

    fn without(&mut self, keys: &[&str], columns: &[Field]) {
        let place = |name: &Option<String>| columns.iter().position(|f| name.as_ref() == Some(&f.name));
        self.retain(|(name, _)| {
            place(name).is_some() || !keys.iter().any(|key| name.as_deref() == Some(*key))
        });
        self.sort_by_key(|(name, _)| place(name));
    }
}

impl Columned for Vec<Input<'_>> {
    fn count(&self, name: &str) -> usize {
        self.iter().filter(|input| input.name == name).count()
    }

    fn key(&self, name: &str) -> Option<Result<Vec<Json>, Error>> {
        let input = self.iter().find(|input| input.name == name)?;
        Some(keys(name, &input.tensor))
    }

    fn add(&mut self, field: &Field, found: FeatureColumn) -> Result<(), Error> {
        let cells = found.values.into_iter().map(cell).collect();
        let frame = Frame { names: Some(vec![field.name.clone()]), columns: vec![cells] };
        let alone = Signature { inputs: vec![field.clone()], outputs: Vec::new() };
        let tensors = frame.bind(&alone, &Metadata::default())?;
        self.extend(tensors.into_iter().map(|tensor| Input { name: field.name.clone().into(), tensor }));
        Ok(())
    }

    fn without(&mut self, keys: &[&str], columns: &[Field]) {
        let place = |input: &Input<'_>| columns.iter().position(|f| input.name == f.name);
        self.retain(|input| place(input).is_some() || !keys.iter().any(|key| input.name == *key));
        self.sort_by_key(|input| place(input));
    }
}

fn no_list(name: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{name}` is a key, and must be a list of one value a row"))
        .param(name.to_owned())
}

/// A tensor of one whole number or text a row, as keys.
fn keys(name: &str, tensor: &Tensor) -> Result<Vec<Json>, Error> {
    if !matches!(tensor.shape(), [_] | [_, 1]) {
        return Err(no_list(name));
    }
    macro_rules! whole {
        ($type:ty) => {
            Ok(tensor.values::<$type>()?.iter().map(|n| Json::from(*n)).collect())
        };
    }
    match tensor.datatype() {
        DataType::Int64 => whole!(i64),
        DataType::Int32 => whole!(i32),
        DataType::Int16 => whole!(i16),
        DataType::Int8 => whole!(i8),
        DataType::Uint64 => whole!(u64),
        DataType::Uint32 => whole!(u32),
        DataType::Uint16 => whole!(u16),
        DataType::Uint8 => whole!(u8),
        DataType::Bytes => {
            let unread = || {
                let m = format!("`{name}` is a key, and one of its values is not UTF-8");
                Error::new(Code::InvalidRequest, m).param(name.to_owned())
            };
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(Json::from).map_err(|_| unread());
            tensor.strings().map(text).collect()
        }
        other => {
            let m = format!("`{name}` is a key, and is sent as {other}: send whole numbers or BYTES");
            Err(Error::new(Code::InvalidRequest, m).param(name.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str, features: &[&str]) -> LookupUse {
        LookupUse {
            name: name.to_owned(),
            view: "weather".to_owned(),
            keys: vec![("airport".to_owned(), name.to_owned())],
            features: features.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    #[test]
    fn a_column_is_the_feature_that_a_training_set_calls_so() {
        let both = Lookup { uses: vec![own("origin", &["temp", "wind"]), own("dest", &["temp"])] };
        for (column, found) in [
            ("wind", Some((0, "wind"))),
            ("origin__temp", Some((0, "temp"))),
            ("dest__temp", Some((1, "temp"))),
            ("temp", None),
            ("dest__wind", None),
            ("origin_temp", None),
        ] {
            assert_eq!(both.find(column), found, "{column}");
        }
    }
}
