//! What queries are said to be made of: by a table of queries, and against what changes when a column does.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as Arrow};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;

fn of(columns: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, true);
    Arc::new(Arrow::new(columns.iter().map(field).collect::<Vec<_>>()))
}

const T: [&str; 3] = ["k", "a", "b"];
const U: [&str; 3] = ["k", "x", "y"];

async fn traced(sql: &str) -> Traced {
    trace(sql, &[("t", of(&T)), ("u", of(&U))]).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// `c=t.a:identity,t.b:filter; | t.k:join`
/// The same with what each is made of in the order of the words: which is told first means nothing.
fn sorted(said: &str) -> String {
    let column = |column: &str| {
        let (name, from) = column.split_once('=').unwrap_or(("", column));
        let mut from: Vec<&str> = from.split(',').collect();
        from.sort_unstable();
        format!("{name}={}", from.join(","))
    };
    let part = |part: &str| part.split("; ").map(column).collect::<Vec<_>>().join("; ");
    said.split(" | ").map(part).collect::<Vec<_>>().join(" | ")
}

fn said(traced: &Traced) -> String {
    let from = |all: &[FromColumn]| -> String {
        let one = |f: &FromColumn| format!("{}.{}:{}", ["t", "u"][f.input], f.column, f.via.as_str());
        all.iter().map(one).collect::<Vec<_>>().join(",")
    };
    let columns: Vec<String> =
        traced.columns.iter().map(|c| format!("{}={}", c.name, from(&c.from))).collect();
    format!("{} | {}", columns.join("; "), from(&traced.rows))
}

#[tokio::test]
async fn every_way_to_make_a_column_is_told_by_its_kind() {
    for (sql, expected) in [
        ("select a from t", "a=t.a:identity | "),
        ("select * from t", "k=t.k:identity; a=t.a:identity; b=t.b:identity | "),
        ("select a as c, 1 as one from t", "c=t.a:identity; one= | "),
        (
            "select cast(a as double) c, try_cast(b as text) d from t",
            "c=t.a:transformation; d=t.b:transformation | ",
        ),
        (
            "select a + b as c, coalesce(a, 0) as d from t",
            "c=t.a:transformation,t.b:transformation; d=t.a:transformation | ",
        ),
        ("select a from t where b > 1 and k is null", "a=t.a:identity | t.k:filter,t.b:filter"),
        ("select a from t order by b limit 3", "a=t.a:identity | t.b:sort"),
        (
            "select k, sum(a) as s, count(*) as n from t group by k",
            "k=t.k:identity; s=t.a:aggregation; n= | t.k:group_by",
        ),
        ("select sum(a + b) + 1 as s from t", "s=t.a:aggregation,t.b:aggregation | "),
        ("select sum(a) filter (where b > 1) as s from t", "s=t.a:aggregation,t.b:filter | "),
        (
            "select k % 2 as g, max(a) as m from t group by k % 2 having min(b) > 0",
            "g=t.k:transformation; m=t.a:aggregation | t.k:group_by,t.b:filter",
        ),
        (
            "select t.a, u.x from t join u on t.k = u.k and t.b < u.y",
            "a=t.a:identity; x=u.x:identity | t.k:join,t.b:join,u.k:join,u.y:join",
        ),
        (
            "select k, a, x from t left join u using (k)",
            "k=t.k:identity; a=t.a:identity; x=u.x:identity | t.k:join,u.k:join",
        ),
        (
            "select t.a, u.x from t, u where t.k = u.k",
            "a=t.a:identity; x=u.x:identity | t.k:filter,u.k:filter",
        ),
        (
            "with c as (select k as key, a + 1 as plus from t), d as (select key, plus * 2 as twice from c) \
             select twice, key from d",
            "twice=t.a:transformation; key=t.k:identity | ",
        ),
        // A name of a table that a `with` gives to something else.
        ("with t as (select x as a from u) select a from t", "a=u.x:identity | "),
        ("with t as (select a, b from t where k > 0) select b from t", "b=t.b:identity | t.k:filter"),
        (
            "select a as c from t union all select x + 1 from u where y > 0",
            "c=t.a:identity,u.x:transformation | u.y:filter",
        ),
        ("select a from t union select x from u", "a=t.a:identity,u.x:identity | t.a:group_by,u.x:group_by"),
        (
            "select case when b > 1 then a else k end as c from t",
            "c=t.k:transformation,t.a:transformation,t.b:conditional | ",
        ),
        (
            "select sum(a) over (partition by k order by b) as w, row_number() over (order by b) as n from t",
            "w=t.k:window,t.a:aggregation,t.b:window; n=t.b:window | ",
        ),
        ("select lag(a) over (order by k) as w from t", "w=t.k:window,t.a:transformation | "),
        (
            "select a from t where k in (select k from u where y = 1)",
            "a=t.a:identity | t.k:filter,u.k:filter,u.y:filter",
        ),
        (
            "select a from t where exists (select 1 from u where u.k = t.k)",
            "a=t.a:identity | t.k:filter,u.k:filter",
        ),
        (
            "select a, (select max(x) from u where u.k = t.k) as m from t",
            "a=t.a:identity; m=t.k:filter,u.k:filter,u.x:aggregation | ",
        ),
        (
            "select d.s from (select sum(b) as s, k from t group by k) d where d.k > 0",
            "s=t.b:aggregation | t.k:group_by,t.k:filter",
        ),
        ("select distinct a from t", "a=t.a:identity | t.a:group_by"),
        ("select distinct on (k) a from t order by k, b", "a=t.a:identity | t.k:group_by,t.k:sort,t.b:sort"),
        ("select k from t intersect select k from u", "k=t.k:identity | t.k:group_by,t.k:join,u.k:join"),
        (
            "select k, a, count(*) as n from t group by rollup (k, a)",
            "k=t.k:identity; a=t.a:identity; n= | t.k:group_by,t.a:group_by",
        ),
        (
            "with recursive r as (select k as n from t union all select n + x from r, u where n < 9) select n from r",
            "n=t.k:identity,t.k:transformation,u.x:transformation | t.k:filter,u.x:filter",
        ),
        (
            "select t.a, l.x from t, lateral (select x from u where u.k = t.k) l",
            "a=t.a:identity; x=u.x:identity | t.k:filter,u.k:filter",
        ),
        ("select a from t where b = $month", "a=t.a:identity | t.b:filter"),
        ("select a from t where b > (select avg(y) from u)", "a=t.a:identity | t.b:filter,u.y:filter"),
        ("values (1, 2)", "column1=; column2= | "),
    ] {
        assert_eq!(sorted(&said(&traced(sql).await)), sorted(expected), "{sql}");
    }
}

#[tokio::test]
async fn what_cannot_be_resolved_is_an_error_and_long_chains_are_walked() {
    for wrong in ["select nothing from t", "select a from v", "select a from t where"] {
        assert!(trace(wrong, &[("t", of(&T))]).await.is_err(), "{wrong}");
    }
    let chain = vec!["a = 1"; 2_000].join(" or ");
    assert_eq!(said(&traced(&format!("select k from t where {chain}")).await), "k=t.k:identity | t.a:filter");
}

/// A query and the names of its columns, all of them whole numbers.
#[derive(Debug, Clone)]
struct Rel {
    sql: String,
    columns: Vec<String>,
}

fn base() -> impl Strategy<Value = Rel> {
    prop_oneof![
        Just(("select * from t", T)),
        Just(("select k, a, b from t where a is not null", T)),
        Just(("select * from u", U)),
        Just(("select y as k, x, k as y from u", U)),
    ]
    .prop_map(|(sql, columns)| Rel {
        sql: sql.to_owned(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
    })
}

/// One step more. `p` and `q` say which of the columns it is about.
fn step(one: Rel, other: Rel, how: u8, p: usize, q: usize) -> Rel {
    let Rel { sql, columns } = one;
    let (c, d) = (columns[p % columns.len()].clone(), columns[q % columns.len()].clone());
    let (e, f) = (&other.columns[q % other.columns.len()], &other.columns[p % other.columns.len()]);
    let named = |sql: String, columns: &[&str]| Rel {
        sql,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
    };
    let all = columns.join(", ");
    let with = &other.sql;
    match how % 16 {
        0 => Rel { sql: format!("select * from ({sql}) r where r.{c} < 3"), columns },
        1 => named(
            format!("select {c} + {d} as p, coalesce({c}, {d}) as q, {d} as r from ({sql}) r"),
            &["p", "q", "r"],
        ),
        2 => named(
            format!("select {c} as g, sum({d}) as s, count(*) as n from ({sql}) r group by {c}"),
            &["g", "s", "n"],
        ),
        3 => named(
            format!(
                "select l.{c} as p, r.{e} as q, l.{d} as r from ({sql}) l join ({with}) r on l.{c} = r.{e}"
            ),
            &["p", "q", "r"],
        ),
        4 => named(
            format!(
                "select l.{d} as p, r.{f} as q from ({sql}) l left join ({with}) r on l.{c} = r.{e} and r.{f} > 0"
            ),
            &["p", "q"],
        ),
        5 => named(
            format!(
                "select {c} as p, {d} as q from ({sql}) l union all select {e} as x1, {f} as x2 from ({with}) r"
            ),
            &["p", "q"],
        ),
        6 => named(format!("select {c} as p from ({sql}) l union select {e} from ({with}) r"), &["p"]),
        7 => named(
            format!(
                "select {c} as p, {d} as q, sum({c}) over (partition by {d} order by {c}) as w from ({sql}) r"
            ),
            &["p", "q", "w"],
        ),
        8 => Rel { sql: format!("select distinct {all} from ({sql}) r"), columns },
        9 => Rel {
            sql: format!("select * from ({sql}) r where {c} in (select {e} from ({with}) i where {f} < 3)"),
            columns,
        },
        10 => Rel {
            sql: format!(
                "select * from ({sql}) r where exists (select 1 from ({with}) i where i.{e} = r.{c})"
            ),
            columns,
        },
        11 => named(
            format!("select case when {c} > 1 then {d} else 0 end as p, {c} as q from ({sql}) r"),
            &["p", "q"],
        ),
        12 => Rel { sql: format!("select * from ({sql}) r order by {all} limit 4"), columns },
        13 => named(
            format!("with m as ({sql}) select i.{c} as p, o.{d} as q from m i join m o on i.{c} = o.{d}"),
            &["p", "q"],
        ),
        14 => named(format!("select {c} as p from ({sql}) l except select {e} from ({with}) r"), &["p"]),
        _ => named(
            format!("select {d} as p, (select max({f}) from ({with}) i) as m from ({sql}) r"),
            &["p", "m"],
        ),
    }
}

fn queries() -> impl Strategy<Value = Rel> {
    let more = (base(), base(), any::<u8>(), 0usize..4, 0usize..4);
    let one = more.prop_map(|(a, b, how, p, q)| step(a, b, how, p, q)).boxed();
    let two = (one.clone(), base(), any::<u8>(), 0usize..4, 0usize..4);
    let two = two.prop_map(|(a, b, how, p, q)| step(a, b, how, p, q)).boxed();
    let three = (two.clone(), one.clone(), any::<u8>(), 0usize..4, 0usize..4);
    prop_oneof![one, two, three.prop_map(|(a, b, how, p, q)| step(a, b, how, p, q))]
}

type Cells = Vec<Vec<Option<i64>>>;

fn cells() -> impl Strategy<Value = Cells> {
    let column = proptest::collection::vec(proptest::option::weighted(0.9, 0i64..5), 6);
    proptest::collection::vec(column, 6)
}

/// The rows of a query, each column as texts.
async fn ran(sql: &str, cells: &[Vec<Option<i64>>]) -> Option<Vec<Vec<String>>> {
    let session = SessionContext::new();
    for (name, columns, cells) in [("t", T, &cells[..3]), ("u", U, &cells[3..])] {
        let schema = of(&columns);
        let arrays = cells.iter().map(|c| Arc::new(Int64Array::from(c.clone())) as _).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
        session.register_table(name, Arc::new(table)).unwrap();
    }
    let batches = session.sql(sql).await.ok()?.collect().await.ok()?;
    let mut rows = Vec::new();
    let options = FormatOptions::default().with_null("null");
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()),
        );
    }
    Some(rows)
}

/// Some columns of rows, in no order.
fn part(rows: &[Vec<String>], columns: &[usize]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|c| row[*c].clone()).collect()).collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_column_that_is_not_named_has_no_influence(rel in queries(), cells in cells(), others in cells()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let traced = traced(&rel.sql).await;
            prop_assert_eq!(traced.columns.len(), rel.columns.len());
            let Some(before) = ran(&rel.sql, &cells).await else { return Ok(()) };
            for (at, (input, column)) in
                T.iter().map(|c| (0, *c)).chain(U.iter().map(|c| (1, *c))).enumerate()
            {
                let names = |all: &[FromColumn]| all.iter().any(|f| f.input == input && f.column == column);
                if names(&traced.rows) {
                    continue;
                }
                let mut changed = cells.clone();
                changed[at].clone_from(&others[at]);
                let Some(after) = ran(&rel.sql, &changed).await else { continue };
                let same: Vec<usize> =
                    (0..traced.columns.len()).filter(|c| !names(&traced.columns[*c].from)).collect();
                prop_assert_eq!(part(&before, &same), part(&after, &same), "{} {}: {}", input, column, rel.sql);
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
