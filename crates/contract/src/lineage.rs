//! What a stage made of what: the words of lineage. Who keeps them, and how they hang together, is not here.

use serde::{Deserialize, Serialize};

/// What sort of thing is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThingKind {
    /// A dataset of the project.
    Dataset,
    /// A dataset of somebody else, who told of it: `NAMESPACE/NAME`.
    Foreign,
    /// A file, relative to the project where it is in there.
    File,
    /// An address, or a database that was asked; without secrets.
    Address,
    /// A file that a stage left.
    Artifact,
    /// What a stage of a run gave, when it is none of the others: `run_…/STAGE`.
    Value,
    /// A model that was asked.
    Model,
}

impl ThingKind {
    /// All of them.
    pub const ALL: [ThingKind; 7] = [
        ThingKind::Dataset,
        ThingKind::Foreign,
        ThingKind::File,
        ThingKind::Address,
        ThingKind::Artifact,
        ThingKind::Value,
        ThingKind::Model,
    ];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            ThingKind::Dataset => "dataset",
            ThingKind::Foreign => "foreign",
            ThingKind::File => "file",
            ThingKind::Address => "address",
            ThingKind::Artifact => "artifact",
            ThingKind::Value => "value",
            ThingKind::Model => "model",
        }
    }

    /// The one of that name.
    pub fn of(name: &str) -> Option<ThingKind> {
        ThingKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Something that is read or written, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// What it is called.
    pub name: String,
    /// What tells one state of it from another: the content name of a dataset's version, the hash of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The number of a dataset's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

impl Thing {
    /// A thing of which no state is told.
    pub fn new(kind: ThingKind, name: impl Into<String>) -> Thing {
        Thing { kind, name: name.into(), version: None, number: None }
    }

    /// Whether it is the same in the same state: a number is only another word for that.
    pub fn is(&self, other: &Thing) -> bool {
        self.kind == other.kind && self.name == other.name && self.version == other.version
    }

    /// The same in that state.
    #[must_use]
    pub fn at(self, version: impl Into<String>) -> Thing {
        Thing { version: Some(version.into()), ..self }
    }
}

/// How one column is made of another; the words are OpenLineage's. Those before [`Via::Join`] say that its values are in the
/// result (*direct*), the others that they decide which values are (*indirect*). The order is that of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// As it is.
    Identity,
    /// Worked out row by row.
    Transformation,
    /// Worked out of many rows.
    Aggregation,
    /// Rows are put together by it.
    Join,
    /// Rows are taken together by it.
    GroupBy,
    /// Rows are left out by it.
    Filter,
    /// Rows are ordered by it.
    Sort,
    /// Which rows are looked at beside a row is decided by it.
    Window,
    /// Which value is taken is decided by it.
    Conditional,
}

impl Via {
    /// Whether its values are in the result.
    pub const fn is_direct(self) -> bool {
        matches!(self, Via::Identity | Via::Transformation | Via::Aggregation)
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Via::Identity => "identity",
            Via::Transformation => "transformation",
            Via::Aggregation => "aggregation",
            Via::Join => "join",
            Via::GroupBy => "group_by",
            Via::Filter => "filter",
            Via::Sort => "sort",
            Via::Window => "window",
            Via::Conditional => "conditional",
        }
    }
}

/// A column of an input, and what it is there for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FromColumn {
    /// Which of the inputs, from 0.
    pub input: usize,
    /// The column.
    pub column: String,
    /// What for.
    pub via: Via,
}

/// A column of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnMade {
    /// Its name.
    pub name: String,
    /// Its type, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ty: String,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<FromColumn>,
}

/// Something that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What.
    pub thing: Thing,
    /// Its columns, when they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnMade>,
    /// The columns that decide which rows there are, whatever the column: indirect all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<FromColumn>,
    /// How many rows were written to it, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Something that was expected of an input, and whether it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which of the inputs, from 0.
    pub input: usize,
    /// What sort of expectation: `range`, `not_null`.
    pub check: String,
    /// What it is called.
    pub name: String,
    /// The column that it is about, when it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Whether it is so.
    pub passed: bool,
    /// What happens when it is not: `error` stops, `warn` does not.
    pub severity: String,
}

impl From<Thing> for Output {
    fn from(thing: Thing) -> Output {
        Output { thing, columns: Vec::new(), rows: Vec::new(), count: None }
    }
}

/// What was made of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// What was read, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Thing>,
    /// What was written, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// What was expected of what was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

impl Lineage {
    /// What was read, and nothing else.
    pub fn of(inputs: Vec<Thing>) -> Lineage {
        Lineage { inputs, ..Lineage::default() }
    }

    /// The place of an input, which is added when it is not there.
    pub fn input(&mut self, thing: Thing) -> usize {
        match self.inputs.iter().position(|known| *known == thing) {
            Some(at) => at,
            None => {
                self.inputs.push(thing);
                self.inputs.len() - 1
            }
        }
    }

    /// Adds what another tells: what is told twice is there once.
    pub fn add(&mut self, other: Lineage) {
        let places: Vec<usize> = other.inputs.into_iter().map(|thing| self.input(thing)).collect();
        let moved = |from: Vec<FromColumn>| -> Vec<FromColumn> {
            let place = |f: FromColumn| Some(FromColumn { input: *places.get(f.input)?, ..f });
            from.into_iter().filter_map(place).collect()
        };
        for check in other.checks {
            let Some(input) = places.get(check.input) else { continue };
            let check = Check { input: *input, ..check };
            if !self.checks.contains(&check) {
                self.checks.push(check);
            }
        }
        for Output { thing, columns, rows, count } in other.outputs {
            let columns: Vec<ColumnMade> =
                columns.into_iter().map(|c| ColumnMade { from: moved(c.from), ..c }).collect();
            let rows = moved(rows);
            match self.outputs.iter_mut().find(|known| known.thing == thing) {
                None => self.outputs.push(Output { thing, columns, rows, count }),
                Some(known) => {
                    joined(&mut known.rows, rows);
                    known.count = count.or(known.count);
                    for column in columns {
                        match known.columns.iter_mut().find(|c| c.name == column.name) {
                            Some(own) => joined(&mut own.from, column.from),
                            None => known.columns.push(column),
                        }
                    }
                }
            }
        }
    }
}

fn joined(known: &mut Vec<FromColumn>, more: Vec<FromColumn>) {
    for from in more {
        if !known.contains(&from) {
            known.push(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lineages() -> impl Strategy<Value = Lineage> {
        let thing = || "[ab]".prop_map(|name| Thing::new(ThingKind::Dataset, name));
        let from = || {
            (0usize..3, "[xy]").prop_map(|(input, column)| FromColumn { input, column, via: Via::Identity })
        };
        let column = ("[xy]", proptest::collection::vec(from(), 0..3)).prop_map(|(name, from)| ColumnMade {
            name,
            ty: String::new(),
            from,
        });
        let columns = proptest::collection::vec(column, 0..3).prop_map(|mut columns| {
            // No table has two columns of a name.
            columns.sort_by(|a: &ColumnMade, b| a.name.cmp(&b.name));
            columns.dedup_by(|a, b| a.name == b.name);
            columns
        });
        let output = (thing(), columns, proptest::collection::vec(from(), 0..2))
            .prop_map(|(thing, columns, rows)| Output { columns, rows, ..Output::from(thing) });
        (proptest::collection::vec(thing(), 0..3), proptest::collection::vec(output, 0..3))
            .prop_map(|(inputs, outputs)| Lineage { inputs, outputs, ..Lineage::default() })
    }

    /// Every pair that it says something of, by names.
    fn pairs(of: &Lineage) -> std::collections::BTreeSet<(String, String, String, String)> {
        let mut all = std::collections::BTreeSet::new();
        for output in &of.outputs {
            for column in &output.columns {
                for from in &column.from {
                    let Some(input) = of.inputs.get(from.input) else { continue };
                    let (o, c) = (output.thing.name.clone(), column.name.clone());
                    all.insert((o, c, input.name.clone(), from.column.clone()));
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn what_two_tell_is_what_both_told_and_each_thing_is_there_once(a in lineages(), b in lineages()) {
            let mut both = Lineage::default();
            both.add(a.clone());
            both.add(b.clone());
            let told: std::collections::BTreeSet<_> = pairs(&a).union(&pairs(&b)).cloned().collect();
            prop_assert_eq!(pairs(&both), told);
            let mut again = both.clone();
            again.add(both.clone());
            prop_assert_eq!(again, both);
        }
    }

    #[test]
    fn kinds_are_found_by_their_names() {
        for kind in ThingKind::ALL {
            assert_eq!(ThingKind::of(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(ThingKind::of("x"), None);
        for via in [Via::Identity, Via::GroupBy, Via::Conditional] {
            assert_eq!(serde_json::to_value(via).unwrap(), via.as_str());
        }
    }
}
