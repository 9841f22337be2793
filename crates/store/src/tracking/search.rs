//! Searches: clauses and orders to statements. What users wrote is bound, never part of a statement.

use super::filter::{self, Clause, Entity, Op, Order, Value, Vocabulary};
use super::sql::{Dialect, Statement};
use super::{Arg, Experiment, Page, Refused, Run, Search, TenantTracking, experiments};
use crate::Error;

/// Appends the comparison of a column.
pub(super) fn compare(s: &mut Statement, d: Dialect, column: &str, op: Op, value: &Value) {
    match (op, value) {
        (Op::In | Op::NotIn, Value::List(all)) => {
            s.push(column).push(if op == Op::In { " IN " } else { " NOT IN " });
            s.list(all.iter());
        }
        (Op::Like | Op::Ilike, Value::Text(pattern)) => {
            let any_case = op == Op::Ilike;
            let place = s.place(d.pattern(pattern, any_case));
            let sql = d.like(column, &place, any_case);
            s.push(&sql);
        }
        _ => {
            s.push(column).push(" ").push(op.as_str()).push(" ");
            match value {
                Value::Text(t) => s.bind(t),
                Value::Int(n) => s.bind(*n),
                Value::Number(n) => s.bind(*n),
                Value::List(_) | Value::None => s.push("NULL"),
            };
        }
    }
}

/// Appends the comparison of a metric's value, where no number is equal to none.
pub(super) fn compare_metric(s: &mut Statement, d: Dialect, of: &str, op: Op, value: &Value) {
    s.push("(");
    compare(s, d, &format!("{of}.value"), op, value);
    if op == Op::NotEqual {
        s.push(" OR ").push(of).push(".nan = 1)");
    } else {
        s.push(") AND ").push(of).push(".nan = 0");
    }
}

/// The column of a run's attribute.
fn column(key: &str) -> &'static str {
    match key {
        "run_id" => "r.id",
        "artifact_uri" => "r.location",
        "start_time" | "created" | "Created" => "r.started_at",
        "end_time" => "r.ended_at",
        "status" => "r.status",
        "user_id" => "r.user_id",
        _ => "r.name",
    }
}

/// Appends a clause about a run `r`.
fn run_clause(s: &mut Statement, d: Dialect, c: &Clause) {
    s.push(" AND ");
    match c.entity {
        Entity::Attribute => compare(s, d, column(&c.key), c.op, &c.value),
        Entity::Dataset => {
            let column = match c.key.as_str() {
                "context" => "i.context",
                "digest" => "d.digest",
                _ => "d.name",
            };
            s.push("EXISTS (SELECT 1 FROM ml_inputs i JOIN ml_datasets d ON d.num = i.dataset WHERE i.run = r.num AND ");
            compare(s, d, column, c.op, &c.value);
            s.push(")");
        }
        Entity::Metric | Entity::Param | Entity::Tag => {
            if c.op == Op::IsNull {
                s.push("NOT ");
            }
            let table = table(c.entity);
            s.push("EXISTS (SELECT 1 FROM ")
                .push(table)
                .push(" v WHERE v.run = r.num AND v.key = ")
                .bind(&c.key);
            match c.op {
                Op::IsNull | Op::IsNotNull => {}
                op if c.entity == Entity::Metric => {
                    s.push(" AND ");
                    compare_metric(s, d, "v", op, &c.value);
                }
                op => {
                    s.push(" AND ");
                    compare(s, d, "v.value", op, &c.value);
                }
            }
            s.push(")");
        }
    }
}

const fn table(entity: Entity) -> &'static str {
    match entity {
        Entity::Metric => "ml_latest",
        Entity::Param => "ml_params",
        _ => "ml_tags",
    }
}

/// Reads an order, in which nothing may be twice.
pub(super) fn orders(all: &[String], vocabulary: Vocabulary) -> Result<Vec<Order>, Refused> {
    let mut read: Vec<Order> = Vec::with_capacity(all.len());
    for text in all {
        let order = filter::order(text, vocabulary)?;
        if read.iter().any(|o| (o.entity, &o.key) == (order.entity, &order.key)) {
            let all: Vec<String> = all.iter().map(|o| format!("'{o}'")).collect();
            let m = format!("`order_by` contains duplicate fields: [{}]", all.join(", "));
            return Err(Refused { why: super::Why::Internal, message: m });
        }
        read.push(order);
    }
    Ok(read)
}

const fn direction(ascending: bool) -> &'static str {
    if ascending { "" } else { " DESC" }
}

/// A condition on the numbers of experiments.
fn of_experiments(s: &mut Statement, column: &str, ids: &[i64]) {
    s.push(column).push(" IN ").list(ids.iter().copied());
}

impl TenantTracking<'_> {
    /// Runs of the experiments that the filter allows. Those without what the order asks for come last; what is equal comes by
    /// the time of its start, the newest first, and by its id.
    ///
    /// # Errors
    /// [`Why::Invalid`](super::Why::Invalid) of a filter or an order that cannot be read.
    pub async fn search_runs(&self, experiments: &[i64], search: &Search) -> Result<Page<Run>, Error> {
        let clauses = filter::parse(&search.filter, Vocabulary::Runs)?;
        let orders = orders(&search.order, Vocabulary::Runs)?;
        if experiments.is_empty() {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let d = self.db().dialect();
        let mut s = Statement::new("SELECT r.num FROM ml_runs r");
        let mut by = Vec::new();
        for (n, o) in orders.iter().enumerate() {
            let down = direction(o.ascending);
            if o.entity == Entity::Attribute {
                let column = column(&o.key);
                by.push(format!("CASE WHEN {column} IS NULL THEN 1 ELSE 0 END, {column}{down}"));
                continue;
            }
            let of = format!("o{n}");
            s.push(" LEFT JOIN ").push(table(o.entity)).push(" ").push(&of).push(" ON ").push(&of);
            s.push(".run = r.num AND ").push(&of).push(".key = ").bind(&o.key);
            let none =
                if o.entity == Entity::Metric { "WHEN {}.nan = 1 THEN 1 " } else { "" }.replace("{}", &of);
            by.push(format!("CASE {none}WHEN {of}.value IS NULL THEN 2 ELSE 0 END, {of}.value{down}"));
        }
        s.push(" WHERE r.experiment IN (SELECT num FROM ml_experiments WHERE tenant = ").bind(self.tenant());
        s.push(" AND ");
        of_experiments(&mut s, "id", experiments);
        s.push(") AND ").push(&search.view.condition("r.stage"));
        for c in &clauses {
            run_clause(&mut s, d, c);
        }
        let started = |o: &Order| o.entity == Entity::Attribute && o.key == "start_time";
        if !orders.iter().any(started) {
            by.push("r.started_at DESC".to_owned());
        }
        by.push("r.id".to_owned());
        self.page(&mut s, &by.join(", "), search);
        let nums = self.read(s).await?.iter().map(|r| r.int(0)).collect::<Result<Vec<_>, _>>()?;
        let page = Page::of(nums, search.from, search.most);
        Ok(Page { items: self.load(&page.items).await?, next: page.next })
    }

    /// Appends the order and the page, of one more than fits.
    pub(super) fn page(&self, s: &mut Statement, by: &str, search: &Search) {
        let number = |n: u64| Arg::from(i64::try_from(n).unwrap_or(i64::MAX));
        s.push(" ORDER BY ").push(by).push(" LIMIT ").bind(number(search.most.saturating_add(1)));
        s.push(" OFFSET ").bind(number(search.from));
    }

    /// Experiments that the filter allows; unless an order is given, the newest first.
    ///
    /// # Errors
    /// [`Why::Invalid`](super::Why::Invalid) of a filter or an order that cannot be read.
    pub async fn search_experiments(&self, search: &Search, now: i64) -> Result<Page<Experiment>, Error> {
        self.begin_tenant(now).await?;
        let clauses = filter::parse(&search.filter, Vocabulary::Experiments)?;
        let orders = orders(&search.order, Vocabulary::Experiments)?;
        let d = self.db().dialect();
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_experiments e WHERE e.tenant = ",
            self.experiment_columns()
        ));
        s.bind(self.tenant()).push(" AND ").push(&search.view.condition("e.stage"));
        for c in &clauses {
            s.push(" AND ");
            experiment_clause(&mut s, d, c)?;
        }
        let by: Vec<String> = orders
            .iter()
            .map(|o| format!("{}{}", experiment_column(&o.key), direction(o.ascending)))
            .collect();
        let mut by = by.join(", ");
        if by.is_empty() {
            by.push_str("e.created_at DESC, e.id");
        } else if !orders.iter().any(|o| o.key == "experiment_id") {
            by.push_str(", e.id DESC");
        }
        self.page(&mut s, &by, search);
        let found = self.read(s).await?.iter().map(experiments::experiment).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, search.from, search.most))
    }
}

fn experiment_column(key: &str) -> &'static str {
    match key {
        "experiment_id" => "e.id",
        "creation_time" => "e.created_at",
        "last_update_time" => "e.updated_at",
        _ => "e.name",
    }
}

fn experiment_clause(s: &mut Statement, d: Dialect, c: &Clause) -> Result<(), Refused> {
    if c.entity == Entity::Tag {
        if c.op == Op::IsNull {
            s.push("NOT ");
        }
        s.push("EXISTS (SELECT 1 FROM ml_experiment_tags v WHERE v.experiment = e.num AND v.key = ")
            .bind(&c.key);
        if !matches!(c.op, Op::IsNull | Op::IsNotNull) {
            s.push(" AND ");
            compare(s, d, "v.value", c.op, &c.value);
        }
        s.push(")");
        return Ok(());
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| {
            Refused::invalid(format!(
                "Invalid experiment ID '{text}'. Experiment ID must be a valid integer."
            ))
        })
    };
    match (&c.value, c.key.as_str()) {
        (Value::Text(t), "experiment_id") => compare(s, d, "e.id", c.op, &Value::Int(number(t)?)),
        (Value::List(all), "experiment_id") => {
            let ids = all.iter().map(|t| number(t)).collect::<Result<Vec<_>, _>>()?;
            s.push(if c.op == Op::NotIn { "NOT " } else { "" });
            of_experiments(s, "e.id", &ids);
        }
        (value, key) => compare(s, d, experiment_column(key), c.op, value),
    }
    Ok(())
}
