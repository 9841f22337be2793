//! Which columns a query makes its columns of, and which decide what rows there are: read off its resolved plan.
//!
//! The plan is DataFusion's before anything is optimised: names are resolved, `*` is spelled out, nothing is left out. A column is
//! *direct* where its values are in the result, *indirect* where they decide about others ([`Via`]). What is not told has no
//! influence: changing a column that is not named changes nothing in the result, which the tests do with queries made at random.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use contract::lineage::{ColumnMade, FromColumn, Via};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::expr::{AggregateFunction, Case, WindowFunction};
use datafusion::logical_expr::{
    Distinct, Expr, Join, LogicalPlan, RecursiveQuery, SortExpr, WindowFunctionDefinition,
};
use datafusion::prelude::SessionContext;
use futures_util::FutureExt as _;

use crate::{Error, store};

/// Columns of tables, and what each is there for.
type Sources = BTreeSet<(usize, String, Via)>;

/// What is known of the result of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
struct Made {
    /// Of each column, in order.
    columns: Vec<Sources>,
    /// Of which rows there are.
    rows: Sources,
}

/// What a query is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traced {
    /// Its columns. Inputs are the places of tables.
    pub(crate) columns: Vec<ColumnMade>,
    /// The columns that decide which rows there are.
    pub(crate) rows: Vec<FromColumn>,
}

/// What a query may take of the stack while it is traced, in bytes.
const STACK: usize = 64 << 20;

/// Traces a query over tables of these names and columns. No table is read.
///
/// # Errors
/// [`Error::Query`] for what cannot be planned.
pub(crate) async fn trace(sql: &str, tables: &[(&str, SchemaRef)]) -> Result<Traced, Error> {
    // A condition of thousands of parts is as deep: on the stack of a worker it would end the process. Over empty tables
    // nothing is waited for.
    let traced = stacker::grow(STACK, || Box::pin(traced(sql, tables)).now_or_never());
    traced.unwrap_or_else(|| Err(Error::invalid("the query", "it waits for something")))
}

async fn traced(sql: &str, tables: &[(&str, SchemaRef)]) -> Result<Traced, Error> {
    let failed = |e| store::query("resolve the query", &e);
    let session = SessionContext::new();
    for (name, schema) in tables {
        let table = std::sync::Arc::new(EmptyTable::new(std::sync::Arc::clone(schema)));
        session.register_table(TableReference::bare(*name), table).map_err(failed)?;
    }
    let plan = Box::pin(session.state().create_logical_plan(sql)).await.map_err(failed)?;
    let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    let mut tracer = Tracer { tables: &names, working: BTreeMap::new() };
    let made = tracer.plan(&plan, None);
    let from = |sources: Sources| -> Vec<FromColumn> {
        sources.into_iter().map(|(input, column, via)| FromColumn { input, column, via }).collect()
    };
    let columns = plan.schema().fields().iter().zip(made.columns).map(|(field, sources)| ColumnMade {
        name: field.name().clone(),
        ty: String::new(),
        from: from(sources),
    });
    Ok(Traced { columns: columns.collect(), rows: from(made.rows) })
}

/// The same columns for another purpose.
fn used(sources: Sources, via: Via) -> Sources {
    sources.into_iter().map(|(table, column, _)| (table, column, via)).collect()
}

/// Values that something is done with: what decides about them stays what it is.
fn through(sources: Sources, via: Via) -> Sources {
    let stronger = |v: Via| if v.is_direct() { v.max(via) } else { v };
    sources.into_iter().map(|(table, column, v)| (table, column, stronger(v))).collect()
}

/// What the names in an expression mean.
#[derive(Clone, Copy)]
struct Scope<'a> {
    inputs: &'a [(&'a DFSchema, &'a Made)],
    /// The query around this one.
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn column(&self, column: &Column) -> Option<Sources> {
        self.inputs.iter().find_map(|(schema, made)| {
            let at = schema.maybe_index_of_column(column)?;
            made.columns.get(at).cloned()
        })
    }

    /// A name of a query around, however far.
    fn outer(&self, column: &Column) -> Option<Sources> {
        let mut around = self.outer;
        while let Some(scope) = around {
            if let Some(found) = scope.column(column) {
                return Some(found);
            }
            around = scope.outer;
        }
        None
    }

    /// Everything there is: for what is not understood.
    fn everything(&self) -> Sources {
        let all = self.inputs.iter().flat_map(|(_, made)| made.columns.iter().flatten().cloned());
        through(all.collect(), Via::Transformation)
    }
}

struct Tracer<'a> {
    tables: &'a [&'a str],
    /// What recursive queries have made so far, by their names.
    working: BTreeMap<String, Made>,
}

impl Tracer<'_> {
    fn plan(&mut self, plan: &LogicalPlan, outer: Option<&Scope<'_>>) -> Made {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan.table_name.table(), &scan.projected_schema),
            LogicalPlan::Projection(p) => {
                let made = self.plan(&p.input, outer);
                let inputs = [(&**p.input.schema(), &made)];
                let scope = Scope { inputs: &inputs, outer };
                let columns = p.expr.iter().map(|e| self.expr(e, &scope)).collect();
                Made { columns, rows: made.rows }
            }
            LogicalPlan::Filter(f) => {
                let mut made = self.plan(&f.input, outer);
                let sources = self.within(&f.input, &made, outer, &f.predicate);
                made.rows.extend(used(sources, Via::Filter));
                made
            }
            LogicalPlan::Sort(s) => {
                let mut made = self.plan(&s.input, outer);
                let sources = self.sorted(&s.input, &made, outer, &s.expr);
                made.rows.extend(sources);
                made
            }
            LogicalPlan::Window(w) => {
                let mut made = self.plan(&w.input, outer);
                let more: Vec<_> =
                    w.window_expr.iter().map(|e| self.within(&w.input, &made, outer, e)).collect();
                made.columns.extend(more);
                made
            }
            LogicalPlan::Aggregate(a) => self.aggregate(plan, a, outer),
            LogicalPlan::Join(join) => self.join(join, outer),
            LogicalPlan::Union(u) => {
                let mut all =
                    Made { columns: vec![Sources::new(); plan.schema().fields().len()], ..Made::default() };
                for input in &u.inputs {
                    let made = self.plan(input, outer);
                    all.rows.extend(made.rows);
                    for (column, more) in all.columns.iter_mut().zip(made.columns) {
                        column.extend(more);
                    }
                }
                all
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut made = self.plan(input, outer);
                let all: Sources = made.columns.iter().flatten().cloned().collect();
                made.rows.extend(used(all, Via::GroupBy));
                made
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let made = self.plan(&on.input, outer);
                let mut rows = made.rows.clone();
                for e in &on.on_expr {
                    rows.extend(used(self.within(&on.input, &made, outer, e), Via::GroupBy));
                }
                rows.extend(self.sorted(
                    &on.input,
                    &made,
                    outer,
                    on.sort_expr.as_deref().unwrap_or_default(),
                ));
                let columns =
                    on.select_expr.iter().map(|e| self.within(&on.input, &made, outer, e)).collect();
                Made { columns, rows }
            }
            LogicalPlan::Unnest(u) => {
                let made = self.plan(&u.input, outer);
                let lists = u.list_type_columns.iter().map(|(at, _)| *at);
                let unpacked: BTreeSet<usize> =
                    lists.clone().chain(u.struct_type_columns.iter().copied()).collect();
                let column = |at: &usize| {
                    let sources = made.columns.get(*at).cloned().unwrap_or_default();
                    if unpacked.contains(at) { through(sources, Via::Transformation) } else { sources }
                };
                let columns = u.dependency_indices.iter().map(column).collect();
                // As many rows as a list is long.
                let long = lists.filter_map(|at| made.columns.get(at)).flatten().cloned().collect();
                let rows = made.rows.iter().cloned().chain(used(long, Via::Join)).collect();
                Made { columns, rows }
            }
            LogicalPlan::RecursiveQuery(r) => self.recursive(r, outer),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                Made { columns: vec![Sources::new(); plan.schema().fields().len()], ..Made::default() }
            }
            LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Repartition(_) => match plan.inputs().as_slice() {
                [input] => self.plan(input, outer),
                _ => self.unknown(plan, outer),
            },
            _ => self.unknown(plan, outer),
        }
    }

    fn scan(&self, name: &str, schema: &DFSchema) -> Made {
        if let Some(working) = self.working.get(name) {
            return working.clone();
        }
        let columns = match self.tables.iter().position(|t| *t == name) {
            Some(table) => {
                let own = |name: &String| Sources::from([(table, name.clone(), Via::Identity)]);
                schema.fields().iter().map(|f| own(f.name())).collect()
            }
            None => vec![Sources::new(); schema.fields().len()],
        };
        Made { columns, ..Made::default() }
    }

    /// Whatever it does, it does it with what it is given.
    fn unknown(&mut self, plan: &LogicalPlan, outer: Option<&Scope<'_>>) -> Made {
        let mut all = Made::default();
        for input in plan.inputs() {
            let made = self.plan(input, outer);
            all.rows.extend(made.rows);
            all.columns.extend(made.columns);
        }
        let everything: Sources = all.columns.iter().flatten().cloned().collect();
        all.rows.extend(used(everything.clone(), Via::Filter));
        let column = through(everything, Via::Transformation);
        Made { columns: vec![column; plan.schema().fields().len()], rows: all.rows }
    }

    fn within(&mut self, input: &LogicalPlan, made: &Made, outer: Option<&Scope<'_>>, e: &Expr) -> Sources {
        let inputs = [(&**input.schema(), made)];
        self.expr(e, &Scope { inputs: &inputs, outer })
    }

    fn sorted(
        &mut self,
        input: &LogicalPlan,
        made: &Made,
        outer: Option<&Scope<'_>>,
        by: &[SortExpr],
    ) -> Sources {
        by.iter().flat_map(|s| used(self.within(input, made, outer, &s.expr), Via::Sort)).collect()
    }

    fn aggregate(
        &mut self,
        plan: &LogicalPlan,
        a: &datafusion::logical_expr::Aggregate,
        outer: Option<&Scope<'_>>,
    ) -> Made {
        let made = self.plan(&a.input, outer);
        let (mut groups, mut rows) = (Vec::new(), made.rows.clone());
        let exprs: Vec<&Expr> = match a.group_expr.as_slice() {
            [Expr::GroupingSet(set)] => set.distinct_expr(),
            all => all.iter().collect(),
        };
        for e in exprs {
            let sources = self.within(&a.input, &made, outer, e);
            rows.extend(used(sources.clone(), Via::GroupBy));
            groups.push(sources);
        }
        let made_of: Vec<_> = a.aggr_expr.iter().map(|e| self.within(&a.input, &made, outer, e)).collect();
        // Behind the groups of grouping sets comes the number of the set, which is made of no column.
        let between = plan.schema().fields().len().saturating_sub(groups.len() + made_of.len());
        groups.extend(std::iter::repeat_n(Sources::new(), between));
        groups.extend(made_of);
        Made { columns: groups, rows }
    }

    fn join(&mut self, join: &Join, outer: Option<&Scope<'_>>) -> Made {
        use datafusion::common::JoinType::{LeftAnti, LeftMark, LeftSemi, RightAnti, RightMark, RightSemi};
        let left = self.plan(&join.left, outer);
        // A lateral join's right side names columns of the left one.
        let beside = [(&**join.left.schema(), &left)];
        let right = self.plan(&join.right, Some(&Scope { inputs: &beside, outer }));
        let mut by = Sources::new();
        for (l, r) in &join.on {
            by.extend(self.within(&join.left, &left, outer, l));
            by.extend(self.within(&join.right, &right, outer, r));
        }
        if let Some(filter) = &join.filter {
            let inputs = [(&**join.left.schema(), &left), (&**join.right.schema(), &right)];
            by.extend(self.expr(filter, &Scope { inputs: &inputs, outer }));
        }
        let by = used(by, Via::Join);
        let mut rows = left.rows;
        rows.extend(right.rows);
        let columns = match join.join_type {
            LeftSemi | LeftAnti => left.columns,
            RightSemi | RightAnti => right.columns,
            LeftMark => left.columns.into_iter().chain([by.clone()]).collect(),
            RightMark => right.columns.into_iter().chain([by.clone()]).collect(),
            _ => left.columns.into_iter().chain(right.columns).collect(),
        };
        rows.extend(by);
        Made { columns, rows }
    }

    /// Until nothing comes in any more: what can come in is bounded.
    fn recursive(&mut self, r: &RecursiveQuery, outer: Option<&Scope<'_>>) -> Made {
        let mut made = self.plan(&r.static_term, outer);
        let hidden = self.working.insert(r.name.clone(), made.clone());
        loop {
            let step = self.plan(&r.recursive_term, outer);
            let before = made.clone();
            made.rows.extend(step.rows);
            for (column, more) in made.columns.iter_mut().zip(step.columns) {
                column.extend(more);
            }
            if made == before {
                break;
            }
            self.working.insert(r.name.clone(), made.clone());
        }
        match hidden {
            Some(hidden) => self.working.insert(r.name.clone(), hidden),
            None => self.working.remove(&r.name),
        };
        if r.is_distinct {
            let all: Sources = made.columns.iter().flatten().cloned().collect();
            made.rows.extend(used(all, Via::GroupBy));
        }
        made
    }

    /// What a value is made of. Long chains of operators are walked, not descended.
    fn expr(&mut self, e: &Expr, scope: &Scope<'_>) -> Sources {
        if let Some(known) = self.own(e, scope) {
            return known;
        }
        let mut found = Sources::new();
        let mut todo = vec![e];
        while let Some(next) = todo.pop() {
            let walked = next.apply_children(|child| {
                match self.own(child, scope) {
                    Some(known) => found.extend(known),
                    None => todo.push(child),
                }
                Ok(TreeNodeRecursion::Continue)
            });
            if walked.is_err() {
                return scope.everything();
            }
        }
        through(found, Via::Transformation)
    }

    /// Expressions that are not just worked out of all that they name.
    fn own(&mut self, e: &Expr, scope: &Scope<'_>) -> Option<Sources> {
        Some(match e {
            Expr::Alias(a) => return Some(self.expr(&a.expr, scope)),
            Expr::Column(c) => scope.column(c).unwrap_or_else(|| scope.everything()),
            Expr::OuterReferenceColumn(_, c) => scope.outer(c).unwrap_or_else(|| scope.everything()),
            Expr::Literal(..) | Expr::Placeholder(_) | Expr::LambdaVariable(_) => Sources::new(),
            Expr::Case(case) => self.case(case, scope),
            Expr::AggregateFunction(f) => self.aggregated(f, scope),
            Expr::WindowFunction(f) => self.windowed(f, scope),
            Expr::ScalarSubquery(s) => {
                let made = self.plan(&s.subquery, Some(scope));
                let mut sources = made.columns.into_iter().next().unwrap_or_default();
                sources.extend(made.rows);
                sources
            }
            Expr::Exists(s) => used(self.plan(&s.subquery.subquery, Some(scope)).rows, Via::Conditional),
            Expr::InSubquery(s) => self.compared(&s.expr, &s.subquery.subquery, scope),
            Expr::SetComparison(s) => self.compared(&s.expr, &s.subquery.subquery, scope),
            _ => return None,
        })
    }

    fn case(&mut self, case: &Case, scope: &Scope<'_>) -> Sources {
        let mut decides = Sources::new();
        let mut given = Sources::new();
        if let Some(e) = &case.expr {
            decides.extend(self.expr(e, scope));
        }
        for (when, then) in &case.when_then_expr {
            decides.extend(self.expr(when, scope));
            given.extend(self.expr(then, scope));
        }
        if let Some(e) = &case.else_expr {
            given.extend(self.expr(e, scope));
        }
        let mut all = through(given, Via::Transformation);
        all.extend(used(decides, Via::Conditional));
        all
    }

    fn aggregated(&mut self, f: &AggregateFunction, scope: &Scope<'_>) -> Sources {
        let params = &f.params;
        let mut all: Sources =
            params.args.iter().flat_map(|e| through(self.expr(e, scope), Via::Aggregation)).collect();
        if let Some(filter) = &params.filter {
            all.extend(used(self.expr(filter, scope), Via::Filter));
        }
        for by in &params.order_by {
            all.extend(used(self.expr(&by.expr, scope), Via::Sort));
        }
        all
    }

    fn windowed(&mut self, f: &WindowFunction, scope: &Scope<'_>) -> Sources {
        let via = match f.fun {
            WindowFunctionDefinition::AggregateUDF(_) => Via::Aggregation,
            WindowFunctionDefinition::WindowUDF(_) => Via::Transformation,
        };
        let params = &f.params;
        let mut all: Sources = params.args.iter().flat_map(|e| through(self.expr(e, scope), via)).collect();
        for e in params.partition_by.iter().chain(params.order_by.iter().map(|by| &by.expr)) {
            all.extend(used(self.expr(e, scope), Via::Window));
        }
        if let Some(filter) = &params.filter {
            all.extend(used(self.expr(filter, scope), Via::Filter));
        }
        all
    }

    fn compared(&mut self, e: &Expr, with: &LogicalPlan, scope: &Scope<'_>) -> Sources {
        let made = self.plan(with, Some(scope));
        let mut all = through(self.expr(e, scope), Via::Transformation);
        let values = made.columns.into_iter().flatten().collect();
        all.extend(through(values, Via::Transformation));
        all.extend(made.rows);
        all
    }
}

#[cfg(test)]
mod tests;
