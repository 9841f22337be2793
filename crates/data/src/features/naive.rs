//! The join, beside one that looks at every row for every entity.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;

use crate::features::entities::{EntityRows, Slots};
use crate::features::join::Plan;
use crate::features::keys::Keys;
use crate::features::latest::Latest;
use crate::{Column, ColumnType, Schema};

type Key = (Option<i64>, Option<String>);

/// A row of a view: its key, its event and ingest time, and two features.
#[derive(Debug, Clone)]
struct Row {
    key: Key,
    event: Option<i64>,
    ingest: Option<i64>,
    features: (Option<i64>, Option<String>),
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    two_keys: bool,
    has_ingest: bool,
    ttl: Option<i64>,
    cut: Option<i64>,
    by_event: bool,
}

type Features = (Option<i64>, Option<String>);

/// The definition, word for word.
fn naive(rows: &[Row], entity: &(Key, Option<i64>), asked: Asked) -> Option<Features> {
    let (key, at) = (&entity.0, entity.1?);
    let whole = |key: &Key| key.0.is_some() && (!asked.two_keys || key.1.is_some());
    let equal = |a: &Key, b: &Key| a.0 == b.0 && (!asked.two_keys || a.1 == b.1);
    let known = |row: &&Row| {
        let Some(ingest) = row.ingest else { return !asked.has_ingest };
        !asked.has_ingest || (asked.cut.is_none_or(|cut| ingest <= cut) && (!asked.by_event || ingest <= at))
    };
    let mut valid: Vec<&Row> = rows
        .iter()
        .filter(|row| whole(&row.key) && equal(&row.key, key))
        .filter(|row| row.event.is_some_and(|event| event <= at))
        .filter(known)
        .collect();
    valid.sort_by_key(|row| (row.event, row.ingest.filter(|_| asked.has_ingest), row.features.clone()));
    let last = valid.last()?;
    let young = asked.ttl.is_none_or(|ttl| last.event.is_some_and(|event| at - event <= ttl));
    young.then(|| last.features.clone())
}

fn schema(asked: Asked) -> Schema {
    let mut columns = vec![("k", ColumnType::Int), ("l", ColumnType::Text), ("event", ColumnType::Timestamp)];
    columns.extend([("ingest", ColumnType::Timestamp), ("x", ColumnType::Int), ("y", ColumnType::Text)]);
    columns.retain(|(name, _)| match *name {
        "l" => asked.two_keys,
        "ingest" => asked.has_ingest,
        _ => true,
    });
    Schema { columns: columns.into_iter().map(|(name, ty)| Column { name: name.into(), ty }).collect() }
}

fn batch(rows: &[Row], asked: Asked) -> RecordBatch {
    let time = |of: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let mut columns: Vec<ArrayRef> = vec![Arc::new(rows.iter().map(|r| r.key.0).collect::<Int64Array>())];
    if asked.two_keys {
        columns.push(Arc::new(rows.iter().map(|r| r.key.1.as_deref()).collect::<StringArray>()));
    }
    columns.push(time(|row| row.event));
    if asked.has_ingest {
        columns.push(time(|row| row.ingest));
    }
    columns.push(Arc::new(rows.iter().map(|r| r.features.0).collect::<Int64Array>()));
    columns.push(Arc::new(rows.iter().map(|r| r.features.1.as_deref()).collect::<StringArray>()));
    RecordBatch::try_new(schema(asked).to_arrow(), columns).unwrap()
}

/// The entity rows in two batches, as rows of a view without features.
fn entities(rows: &[(Key, Option<i64>)]) -> EntityRows {
    let asked = Asked { two_keys: true, has_ingest: false, ttl: None, cut: None, by_event: false };
    let as_row = |(key, at): &(Key, Option<i64>)| Row {
        key: key.clone(),
        event: *at,
        ingest: None,
        features: (None, None),
    };
    let rows: Vec<Row> = rows.iter().map(as_row).collect();
    let (a, b) = rows.split_at(rows.len() / 2);
    EntityRows { schema: schema(asked), batches: vec![batch(a, asked), batch(b, asked)], count: rows.len() }
}

/// Joined by `workers`, each of which takes its share of the batches.
fn joined(
    rows: &[Row],
    of: &[(Key, Option<i64>)],
    asked: Asked,
    size: usize,
    workers: usize,
) -> Vec<Option<Features>> {
    let entities = entities(of);
    let names: Vec<String> =
        ["k", "l"].iter().take(1 + usize::from(asked.two_keys)).map(|n| (*n).into()).collect();
    let columns = schema(asked);
    let types: Vec<_> = columns.columns.iter().take(names.len()).map(|c| c.ty.to_arrow()).collect();
    let mut keys = Keys::new(&types);
    let (ids, times) = entities.numbered(&mut keys, &names, "event");
    let (slots, of_row) = Slots::new(keys.len(), &ids, &times);
    let Asked { has_ingest, ttl, cut, by_event, .. } = asked;
    let plan = Plan { keys, slots, columns, key_columns: names.len(), has_ingest, ttl, cut, by_event };
    let mut latest: Vec<Latest> = (0..workers).map(|_| Latest::new(plan.slots.len())).collect();
    for (i, part) in rows.chunks(size).enumerate() {
        plan.absorb(&batch(part, asked), &mut latest[i % workers]).unwrap();
    }
    let mut all = Latest::new(plan.slots.len());
    for latest in latest {
        all.merge(latest).unwrap();
    }
    let valid = plan.walk(&all);
    let chunks = all.into_chunks();
    let features = |slot: &u32| {
        let at = valid.get(*slot as usize).copied().flatten()?;
        let (chunk, row) = (&chunks[at.chunk as usize], at.row as usize);
        let (x, y) =
            (chunk[0].as_any().downcast_ref::<Int64Array>(), chunk[1].as_any().downcast_ref::<StringArray>());
        let x = x.unwrap().iter().nth(row).unwrap();
        Some((x, y.unwrap().iter().nth(row).unwrap().map(str::to_owned)))
    };
    of_row.iter().map(features).collect()
}

fn key() -> impl Strategy<Value = Key> {
    let int = prop_oneof![9 => (0i64..3).prop_map(Some), 1 => Just(None)];
    (int, proptest::option::weighted(0.9, "[ab]"))
}

/// Few distinct times, so that there are ties and boundaries are met.
fn time() -> impl Strategy<Value = Option<i64>> {
    proptest::option::weighted(0.95, -2i64..12)
}

fn row() -> impl Strategy<Value = Row> {
    let features = (proptest::option::of(0i64..3), proptest::option::of("[ab]{0,1}"));
    (key(), time(), time(), features).prop_map(|(key, event, ingest, features)| Row {
        key,
        event,
        ingest,
        features,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let limit = || proptest::option::of(0i64..12);
    (any::<bool>(), any::<bool>(), proptest::option::of(0i64..6), limit(), any::<bool>()).prop_map(
        |(two_keys, has_ingest, ttl, cut, by_event)| Asked {
            two_keys,
            has_ingest,
            ttl,
            cut: cut.filter(|_| has_ingest),
            by_event: by_event && has_ingest,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_join_is_what_looking_at_every_row_gives_in_any_order_of_rows_and_batches(
        rows in proptest::collection::vec(row(), 0..40),
        of in proptest::collection::vec((key(), time()), 0..20),
        asked in asked(),
        size in 1usize..12,
        workers in 1usize..4,
        shuffled in any::<prop::sample::Index>(),
    ) {
        let expected: Vec<_> = of.iter().map(|entity| naive(&rows, entity, asked)).collect();
        prop_assert_eq!(&joined(&rows, &of, asked, size, workers), &expected);
        let mut other = rows;
        other.reverse();
        if !other.is_empty() {
            let by = shuffled.index(other.len());
            other.rotate_left(by);
        }
        prop_assert_eq!(&joined(&other, &of, asked, 40, 1), &expected);
    }
}

#[test]
fn rows_that_lost_are_not_kept() {
    let asked = Asked { two_keys: false, has_ingest: false, ttl: None, cut: None, by_event: false };
    let mut keys = Keys::new(&[ColumnType::Int.to_arrow()]);
    let of: Vec<_> = (0..100i64).map(|k| ((Some(k), None), Some(1_000_000))).collect();
    let (ids, times) = entities(&of).numbered(&mut keys, &["k".into()], "event");
    let (slots, _) = Slots::new(keys.len(), &ids, &times);
    let columns = schema(asked);
    let plan = Plan {
        keys,
        slots,
        columns,
        key_columns: 1,
        has_ingest: false,
        ttl: None,
        cut: None,
        by_event: false,
    };
    let mut latest = Latest::new(plan.slots.len());
    let mut most = 0;
    for event in 0..400 {
        // Every row is better than the one before it.
        let rows: Vec<Row> = (0..100i64)
            .map(|k| Row {
                key: (Some(k), None),
                event: Some(event),
                ingest: None,
                features: (Some(event), None),
            })
            .collect();
        plan.absorb(&batch(&rows, asked), &mut latest).unwrap();
        most = most.max(latest.kept());
    }
    assert!(most <= 2 * 100 + 8192, "{most} rows were kept for 100 slots");
}
