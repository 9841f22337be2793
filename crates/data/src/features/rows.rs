//! Where the rows of a view come from: a dataset's columns, or a query over datasets; either way at one version of each.

use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, Expr, SessionContext, ident};

use crate::features::view::FeatureView;
use crate::{At, Error, Schema, Warehouse, store};

/// A view at versions of its datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The datasets and their versions, in the order of their names.
    pub(super) versions: Vec<(String, u64)>,
    /// The columns that are read: keys, event time, ingest time, features.
    pub(super) columns: Schema,
}

impl Warehouse {
    /// The versions that `at` means for a view, and its columns then.
    pub(super) async fn resolve_view(&self, view: &FeatureView, at: &At) -> Result<Resolved, Error> {
        self.view_at(view, self.versions_of(view, at).await?).await
    }

    /// The datasets of a view, in the order of their names, each with the version that `at` means for it.
    pub(crate) async fn versions_of(&self, view: &FeatureView, at: &At) -> Result<Vec<(String, u64)>, Error> {
        let mut versions = Vec::new();
        for name in self.origins(view)? {
            let version = self.dataset(&name)?.resolve(at).await?;
            versions.push((name, version));
        }
        if versions.len() > 1 && !matches!(at, At::Newest | At::Time(_)) {
            let why = "its query reads several datasets, whose versions have different names; name a time";
            return Err(Error::invalid(format!("{at} of the feature view `{}`", view.name()), why));
        }
        Ok(versions)
    }

    /// A view at these versions.
    pub(super) async fn view_at(
        &self,
        view: &FeatureView,
        versions: Vec<(String, u64)>,
    ) -> Result<Resolved, Error> {
        let schema = match (&view.config().sql, versions.as_slice()) {
            (None, [(name, version)]) => {
                let dataset = self.dataset(name)?;
                dataset.schema_of(&dataset.at_version(*version).await?)?
            }
            _ => {
                let frame = self.whole_frame(&self.session(), view, &versions).await?;
                Schema::from_arrow(frame.schema().as_arrow()).map_err(|(column, ty)| {
                    let why = format!("it is of type {ty}, which a dataset has no type for; cast it");
                    Error::invalid(
                        format!("the column `{column}` of the feature view `{}`", view.name()),
                        why,
                    )
                })?
            }
        };
        Ok(Resolved { columns: view.columns(&schema)?, versions })
    }

    /// The rows of a view at versions, its columns alone; `narrow` leaves out what is not wanted.
    pub(super) async fn view_frame(
        &self,
        view: &FeatureView,
        resolved: &Resolved,
        narrow: impl FnOnce(DataFrame) -> Result<DataFrame, Error>,
    ) -> Result<DataFrame, Error> {
        let frame = self.whole_frame(&self.session(), view, &resolved.versions).await?;
        let wanted: Vec<Expr> = resolved.columns.names().map(ident).collect();
        narrow(frame)?.select(wanted).map_err(|e| store::query("read features", &e))
    }

    async fn whole_frame(
        &self,
        session: &SessionContext,
        view: &FeatureView,
        versions: &[(String, u64)],
    ) -> Result<DataFrame, Error> {
        let Some(sql) = &view.config().sql else {
            let (name, version) = versions.first().ok_or_else(|| Error::Query("no dataset".to_owned()))?;
            let dataset = self.dataset(name)?;
            return dataset.frame(session, &dataset.at_version(*version).await?).await;
        };
        for (name, version) in versions {
            let dataset = self.dataset(name)?;
            let table = dataset.frame(session, &dataset.at_version(*version).await?).await?;
            let name = datafusion::common::TableReference::bare(name.as_str());
            session.register_table(name, table.into_view()).map_err(|e| store::query("read features", &e))?;
        }
        let only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        session.sql_with_options(sql, only).await.map_err(|e| {
            let what = format!("the query of the feature view `{}`", view.name());
            Error::invalid(what, e.strip_backtrace())
        })
    }

    /// The datasets of a view.
    fn origins(&self, view: &FeatureView) -> Result<Vec<String>, Error> {
        let config = view.config();
        match &config.sql {
            None => Ok(vec![config.dataset.clone()]),
            Some(sql) => datasets_of(sql).map_err(|why| {
                Error::invalid(format!("the query of the feature view `{}`", view.name()), why)
            }),
        }
    }
}

/// The datasets that a query names, in order; or why it cannot be one of a view.
pub fn datasets_of(sql: &str) -> Result<Vec<String>, String> {
    let state = SessionContext::new().state();
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).map_err(|e| e.strip_backtrace())?;
    let tables = state.resolve_table_references(&statement).map_err(|e| e.strip_backtrace())?;
    let mut names = Vec::new();
    for table in tables {
        if table.schema().is_some() {
            return Err(format!(
                "`{table}` is not a dataset: name datasets alone, in double quotes where they hold `-` or `.`"
            ));
        }
        names.push(table.table().to_owned());
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err("it reads no dataset".to_owned());
    }
    Ok(names)
}
